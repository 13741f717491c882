package protocol

import "github.com/zonecast/zonecast/record"

// The names that name servers tell about themselves by (RFC 4892), in wire form.
const (
	versionBind   = "\x07version\x04bind\x00"
	versionServer = "\x07version\x06server\x00"
	hostnameBind  = "\x08hostname\x04bind\x00"
	idServer      = "\x02id\x06server\x00"
)

// chaos answers class CH.
func (a *answer) chaos() {
	q := a.q
	text := ""
	switch string(q.Name()) {
	case versionBind, versionServer:
		text = a.k.config.Version
	case hostnameBind, idServer:
		text = a.k.config.Identity
	}
	if text == "" || len(text) > 255 || q.qtype != record.TypeTXT && q.qtype != record.TypeANY {
		a.fail(Refused, NotSupported)
		return
	}
	mark := len(a.buf)
	a.u16(pointerMark<<8 | headerSize)
	a.u16(int(record.TypeTXT))
	a.u16(classCH)
	a.u32(0) // it is about this server and this moment
	a.u16(len(text) + 1)
	a.buf = append(append(a.buf, byte(len(text))), text...)
	a.authoritative = true
	if len(a.buf) > a.limit {
		a.buf = a.buf[:mark]
		a.truncated = true
		return
	}
	a.answers++
}
