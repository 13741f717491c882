package protocol

import "github.com/zonecast/zonecast/record"

// The names that name servers tell about themselves by (RFC 4892), in wire form.
const (
	versionBind  = "\x07version\x04bind\x00"
	hostnameBind = "\x08hostname\x04bind\x00"
	idServer     = "\x02id\x06server\x00"
)

// chaos answers class CH.
func (a *answer) chaos() {
	q := &a.k.q
	text := ""
	switch string(q.name) {
	case versionBind:
		text = a.k.config.Version
	case hostnameBind, idServer:
		text = a.k.config.Identity
	}
	if text == "" || len(text) > 255 || q.qtype != record.TypeTXT && q.qtype != record.TypeANY {
		a.rcode = Refused
		return
	}
	w := &a.k.w
	mark := len(w.buf)
	w.u16(pointerMark<<8 | headerSize)
	w.u16(int(record.TypeTXT))
	w.u16(classCH)
	w.u16(0) // TTL 0: it is about this server and this moment
	w.u16(0)
	w.u16(len(text) + 1)
	w.buf = append(append(w.buf, byte(len(text))), text...)
	a.authoritative = true
	if w.size() > w.limit {
		w.buf = w.buf[:mark]
		a.truncated = true
		return
	}
	a.answers++
}
