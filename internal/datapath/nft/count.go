package nft

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// Not in x/sys; from include/uapi/linux/netfilter/nf_tables.h.
const (
	nftaSetExpr     = 17 // what every element of a set does: NFTA_SET_EXPR
	nftaSetElemExpr = 7  // what one does: NFTA_SET_ELEM_EXPR
)

// counts reports whether the set that s declares has a counter for each element.
func (s attrSet) counts() bool {
	return decode(s[nftaSetExpr]).str(unix.NFTA_EXPR_NAME) == "counter"
}

// counted is what the counter in an expression has counted.
func counted(expression attrSet) (packets uint64, ok bool) {
	if expression.str(unix.NFTA_EXPR_NAME) != "counter" {
		return 0, false
	}
	b := decode(expression[unix.NFTA_EXPR_DATA])[unix.NFTA_COUNTER_PACKETS]
	if len(b) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(b), true
}

// Counts returns how many packets each element of a [Set.Counted] set in a table of
// family [Inet] has matched, by its key; nothing where there is no such table or set.
func Counts(table, set string) (map[string]uint64, error) {
	conn, err := dial(listBuffer)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	out := map[string]uint64{}
	of := []attr{str(unix.NFTA_SET_ELEM_LIST_TABLE, table), str(unix.NFTA_SET_ELEM_LIST_SET, set)}
	err = lister{Conn: conn, changing: true}.dump(unix.NFT_MSG_GETSETELEM, of, func(a attrSet) error {
		list(a[unix.NFTA_SET_ELEM_LIST_ELEMENTS], func(_ uint16, body []byte) {
			e := decode(body)
			if n, ok := counted(decode(e[nftaSetElemExpr])); ok {
				out[value(e[unix.NFTA_SET_ELEM_KEY])] = n
			}
		})
		return nil
	})
	if errors.Is(err, errDumpChanged) {
		return nil, nil
	}
	return out, err
}
