package gate

// For tests.
var (
	PrefixOf, KeyOf = prefixOf, keyOf
	Load            = loaded
	AttachFilter    = attachFilter
)
