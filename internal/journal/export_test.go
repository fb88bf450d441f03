package journal

// Read is what [Open] reads, and WriteAll what a Journal writes anew.
var (
	Read      = read
	WriteAll  = writeAll
	AppendSum = appendSum
)
