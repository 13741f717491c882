package tinydns

import (
	"bytes"

	"github.com/zonecast/zonecast/record"
)

// +fqdn,ip,ttl,ts,lo,weight and =fqdn,ip,ttl,ts,lo
func (p *rocks) host(ptr bool) error {
	if err := p.begin(true); err != nil {
		return err
	}
	if err := p.tail(2, ttlPositive); err != nil {
		return err
	}
	if ptr {
		p.ends(5)
	} else {
		p.ends(6)
		weight, err := p.number(5, "weight", 1<<32-1, 1)
		if err != nil {
			return err
		}
		p.m.weight = weight
	}
	ip, ok, err := p.address(1)
	if err != nil {
		return err
	}
	if !ok {
		p.note("the line gives no address and makes no record")
		return nil
	}
	if err := p.addAddress(p.owner, ip); err != nil || !ptr {
		return err
	}
	p.name = reverse(p.name[:0], ip)
	return p.add(p.name, record.TypePTR, p.owner)
}

// named reads the name of field k: x is x.<middle>.fqdn unless a dot is in it.
func (p *rocks) named(k int, middle string) error {
	f, err := p.unquote(k)
	if err != nil {
		return err
	}
	whole := bytes.IndexByte(f, '.') >= 0
	if !whole {
		f = append(append(append([]byte(nil), f...), '.'), middle...)
	}
	if p.name, err = appendLabels(p.name[:0], f); err != nil {
		return p.wrong(k, err)
	}
	if whole {
		return nil
	}
	if p.name = append(p.name[:len(p.name)-1], p.owner...); len(p.name) > maxName {
		return p.wrongf(k, "name %s is longer than %d octets in wire form (RFC 1035 §2.3.4)", clip(record.Name(p.name).String()), maxName)
	}
	return nil
}

// glue adds the address of a server's name, if there is one.
func (p *rocks) glue() error {
	ip, ok, err := p.address(1)
	if err != nil || !ok {
		return err
	}
	return p.addAddress(p.name, ip)
}

// .fqdn,ip,x,ttl,ts,lo and &fqdn,ip,x,ttl,ts,lo
func (p *rocks) server(apex bool) error {
	if err := p.begin(false); err != nil {
		return err
	}
	p.ends(6)
	if err := p.tail(3, ttlNS); err != nil {
		return err
	}
	if err := p.named(2, "ns"); err != nil {
		return err
	}
	if apex {
		if err := p.apex(); err != nil {
			return err
		}
	}
	if err := p.add(p.owner, record.TypeNS, p.name); err != nil {
		return err
	}
	return p.glue()
}

// @fqdn,ip,x,dist,ttl,ts,lo
func (p *rocks) mx() error {
	if err := p.begin(false); err != nil {
		return err
	}
	p.ends(7)
	dist, err := p.number(3, "distance", 1<<16-1, 0)
	if err != nil {
		return err
	}
	if err := p.tail(4, ttlPositive); err != nil {
		return err
	}
	if err := p.named(2, "mx"); err != nil {
		return err
	}
	p.rdata = append(append(p.rdata[:0], byte(dist>>8), byte(dist)), p.name...)
	if err := p.add(p.owner, record.TypeMX, p.rdata); err != nil {
		return err
	}
	return p.glue()
}

// Sfqdn,ip,x,port,priority,weight,ttl,ts,lo
func (p *rocks) srv() error {
	if err := p.begin(false); err != nil {
		return err
	}
	p.ends(9)
	var n [3]uint32
	for i, what := range []string{"port", "priority", "weight"} {
		var err error
		if n[i], err = p.number(3+i, what, 1<<16-1, 0); err != nil {
			return err
		}
	}
	if err := p.tail(6, ttlPositive); err != nil {
		return err
	}
	if err := p.named(2, "srv"); err != nil {
		return err
	}
	port, priority, weight := n[0], n[1], n[2]
	p.rdata = append(p.rdata[:0], byte(priority>>8), byte(priority), byte(weight>>8), byte(weight), byte(port>>8), byte(port))
	p.rdata = append(p.rdata, p.name...)
	if err := p.add(p.owner, record.TypeSRV, p.rdata); err != nil {
		return err
	}
	return p.glue()
}

// Cfqdn,target,ttl,ts,lo and ^fqdn,host,ttl,ts,lo
func (p *rocks) target(t record.Type) (err error) {
	if err := p.begin(t == record.TypeCNAME); err != nil {
		return err
	}
	p.ends(5)
	if p.name, err = p.appendName(p.name[:0], 1); err != nil {
		return err
	}
	if err := p.tail(2, ttlPositive); err != nil {
		return err
	}
	return p.add(p.owner, t, p.name)
}

// 'fqdn,text,ttl,ts,lo
func (p *rocks) txt() error {
	if err := p.begin(true); err != nil {
		return err
	}
	p.ends(5)
	f, err := p.unquote(1)
	if err != nil {
		return err
	}
	p.name = append(p.name[:0], f...)
	if err := p.tail(2, ttlPositive); err != nil {
		return err
	}
	return p.addTXT(p.name)
}

// :fqdn,type,rdata,ttl,ts,lo
func (p *rocks) generic() error {
	if err := p.begin(false); err != nil {
		return err
	}
	p.ends(6)
	t, err := p.number(1, "type", 1<<16-1, 0)
	if err != nil {
		return err
	}
	f, err := p.unquote(2)
	if err != nil {
		return err
	}
	p.rdata = append(p.rdata[:0], f...)
	if err := p.tail(3, ttlPositive); err != nil {
		return err
	}
	return p.addGeneric(record.Type(t), 1, 2)
}

// Zfqdn,mname,rname,ser,ref,ret,exp,min,ttl,ts,lo
func (p *rocks) soa() (err error) {
	if err := p.begin(false); err != nil {
		return err
	}
	p.ends(11)
	p.rdata = p.rdata[:0]
	for k := 1; k <= 2; k++ {
		if p.rdata, err = p.appendName(p.rdata, k); err != nil {
			return err
		}
	}
	numbers := [5]uint32{p.serial, soaRefresh, soaRetry, soaExpire, soaMinimum}
	for i, what := range soaFields {
		if numbers[i], err = p.number(3+i, what, 1<<32-1, numbers[i]); err != nil {
			return err
		}
	}
	p.rdata = appendNumbers(p.rdata, numbers)
	if err := p.tail(8, ttlNegative); err != nil {
		return err
	}
	return p.add(p.owner, record.TypeSOA, p.rdata)
}

// Hname,target,ttl,lo,priority,params and B likewise. There is no timestamp, and the
// TTL is zero unless the line gives one.
func (p *rocks) service(t record.Type) (err error) {
	if err := p.begin(true); err != nil {
		return err
	}
	p.ends(6)
	if p.name, err = p.appendName(p.name[:0], 1); err != nil {
		return err
	}
	p.m = mark{terms: terms{weight: 1}}
	if p.m.ttl, err = p.number(2, "TTL", record.MaxTTL, 0); err != nil {
		return err
	}
	if p.m.loc, err = p.lo(3); err != nil {
		return err
	}
	priority, err := p.number(4, "priority", 1<<16-1, 0)
	if err != nil {
		return err
	}
	p.rdata = append(append(p.rdata[:0], byte(priority>>8), byte(priority)), p.name...)
	if p.rdata, err = appendParams(p.rdata, p.field(5)); err != nil {
		return p.wrong(5, err)
	}
	return p.addGeneric(t, -1, 5)
}
