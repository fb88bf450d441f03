package lab

// Prefix begins the names of l's namespaces.
func Prefix(l Lab) string { return l.prefix() }
