package protocol

import "encoding/binary"

// Truncate appends to dst what is left of a response that does not go through: header
// and question, TC set, so that the client asks over TCP. Nothing is appended when
// response is no response of this package.
func Truncate(dst, response []byte) []byte {
	if len(response) < headerSize {
		return dst
	}
	end := headerSize
	if binary.BigEndian.Uint16(response[4:]) == 1 {
		for end < len(response) && response[end] != 0 {
			end += int(response[end]) + 1
		}
		if end += 5; end > len(response) {
			return dst
		}
	}
	at := len(dst)
	dst = append(dst, response[:end]...)
	dst[at+2] |= flagTC >> 8
	clear(dst[at+6 : at+headerSize])
	return dst
}
