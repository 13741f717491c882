package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"

	"github.com/zonecast/zonecast/announcer/route"
)

// Retrying a session, in seconds: soon after the start, and at this pace after a failure.
const (
	connectRetry = 3
	idleHold     = 2
)

// Speaker is a BGP speaker. Its methods may be called concurrently.
type Speaker struct {
	cfg       Config
	log       *slog.Logger
	changed   func()
	server    *server.BgpServer
	passwords map[netip.Addr]string
	served    chan struct{} // closed when the library's loop has ended

	mu    sync.Mutex // guards below
	peers map[netip.Addr]peerState
}

// peerState is a session as the library told last.
type peerState struct {
	state string
	why   string
	was   bool // it was established once
}

// New starts a speaker that has no session yet. changed is called when one comes or goes.
func New(cfg Config, log *slog.Logger, changed func()) (*Speaker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	id, err := cfg.routerID()
	if err != nil {
		return nil, err
	}
	s := &Speaker{cfg: cfg, log: log, changed: changed, peers: map[netip.Addr]peerState{}, served: make(chan struct{})}
	if s.passwords, err = cfg.passwords(); err != nil {
		return nil, err
	}
	level := &slog.LevelVar{}
	level.Set(slog.LevelDebug)
	s.server = server.NewBgpServer(server.LoggerOption(slog.New(ear{Handler: log.Handler(), speaker: s}), level))
	go func() {
		defer close(s.served)
		s.server.Serve()
	}()
	global := &api.Global{Asn: uint32(cfg.AS), RouterId: id.String(), ListenPort: -1}
	if cfg.Listen.IsValid() {
		global.ListenPort, global.ListenAddresses = int32(cfg.Listen.Port()), []string{cfg.Listen.Addr().String()}
	}
	if err := s.server.StartBgp(context.Background(), &api.StartBgpRequest{Global: global}); err != nil {
		return nil, errors.Join(fmt.Errorf("start BGP: %w", err), s.Stop(false))
	}
	if err := s.learnNothing(); err != nil {
		return nil, errors.Join(err, s.Stop(false))
	}
	return s, nil
}

// learnNothing refuses every route of a router: the library would send them on to the others.
func (s *Speaker) learnNothing() error {
	const name = "learn-nothing"
	p := &api.Policy{Name: name}
	for text, of := range map[string]api.Conditions_RouteType{"external": api.Conditions_ROUTE_TYPE_EXTERNAL, "internal": api.Conditions_ROUTE_TYPE_INTERNAL} {
		p.Statements = append(p.Statements, &api.Statement{
			Name: name + "-" + text, Conditions: &api.Conditions{RouteType: of}, Actions: &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_REJECT},
		})
	}
	if err := s.server.AddPolicy(context.Background(), &api.AddPolicyRequest{Policy: p}); err != nil {
		return fmt.Errorf("refuse routes: %w", err)
	}
	err := s.server.AddPolicyAssignment(context.Background(), &api.AddPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
		Name: "global", Direction: api.PolicyDirection_POLICY_DIRECTION_IMPORT, Policies: []*api.Policy{{Name: name}}, DefaultAction: api.RouteAction_ROUTE_ACTION_ACCEPT,
	}})
	if err != nil {
		return fmt.Errorf("refuse routes: %w", err)
	}
	return nil
}

// Connect begins the sessions.
func (s *Speaker) Connect(ctx context.Context) error {
	err := s.server.WatchEvent(ctx, server.WatchEventMessageCallbacks{OnPeerUpdate: s.heard}, server.WatchPeer())
	if err != nil {
		return fmt.Errorf("watch routers: %w", err)
	}
	for _, p := range s.cfg.Peers {
		if err := s.server.AddPeer(ctx, &api.AddPeerRequest{Peer: s.peer(p)}); err != nil {
			return fmt.Errorf("add router %s: %w", p, err)
		}
	}
	return nil
}

func (s *Speaker) peer(p route.Peer) *api.Peer {
	restart := s.cfg.GracefulRestart > 0
	hold := uint64(s.cfg.HoldTime / time.Second)
	out := &api.Peer{
		Conf:            &api.PeerConf{NeighborAddress: p.Addr.Addr().String(), PeerAsn: p.AS, AuthPassword: s.passwords[p.Addr.Addr()]},
		Transport:       &api.Transport{RemotePort: uint32(p.Addr.Port())},
		Timers:          &api.Timers{Config: &api.TimersConfig{HoldTime: hold, KeepaliveInterval: hold / 3, ConnectRetry: connectRetry, IdleHoldTimeAfterReset: idleHold}},
		GracefulRestart: &api.GracefulRestart{Enabled: restart, RestartTime: uint32(s.cfg.GracefulRestart / time.Second)},
	}
	if s.cfg.Local.IsValid() && s.cfg.Local.Is4() == p.Addr.Addr().Is4() {
		out.Transport.LocalAddress = s.cfg.Local.String()
	}
	if s.cfg.Multihop > 0 && uint64(p.AS) != s.cfg.AS {
		out.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: uint32(s.cfg.Multihop)}
	}
	for _, f := range []struct {
		afi  api.Family_Afi
		four bool
	}{{api.Family_AFI_IP, true}, {api.Family_AFI_IP6, false}} {
		if s.cfg.carries(p, f.four) {
			out.AfiSafis = append(out.AfiSafis, &api.AfiSafi{
				Config:            &api.AfiSafiConfig{Family: &api.Family{Afi: f.afi, Safi: api.Family_SAFI_UNICAST}, Enabled: true},
				MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: restart}},
			})
		}
	}
	return out
}

// heard is called by the library.
func (s *Speaker) heard(e *apiutil.WatchEventMessage_PeerEvent, _ time.Time) {
	if e.Type != apiutil.PEER_EVENT_STATE {
		return
	}
	a := e.Peer.State.NeighborAddress
	now := peerState{state: strings.ToLower(strings.TrimPrefix(e.Peer.State.SessionState.String(), "BGP_FSM_"))}
	established := e.Peer.State.SessionState == wire.BGP_FSM_ESTABLISHED
	s.mu.Lock()
	was := s.peers[a]
	now.was = was.was || established
	if now.why = was.why; established {
		now.why = ""
	} else if m := e.Peer.State.DisconnectMessage; e.Peer.State.SessionState == wire.BGP_FSM_IDLE && m != "" && m != "idle-hold-timer-expired" {
		now.why = m
	}
	s.peers[a] = now
	s.mu.Unlock()
	switch {
	case established && was.state != sessionUp:
		s.log.Info("BGP session established", "router", a)
	case !established && was.state == sessionUp:
		s.log.Warn("BGP session lost", "router", a, "why", now.why)
	case now.why == was.why:
		return
	}
	s.changed()
}

const sessionUp = "established"

// Peers gives the sessions, in the order of the configuration.
func (s *Speaker) Peers() []route.PeerState {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]route.PeerState, len(s.cfg.Peers))
	for i, p := range s.cfg.Peers {
		st := s.peers[p.Addr.Addr()]
		out[i] = route.PeerState{Peer: p.String(), State: st.state, Established: st.state == sessionUp}
		if st.state == "" {
			out[i].State = "idle"
		}
		if !out[i].Established {
			out[i].Why = s.explain(p, st)
		}
	}
	return out
}

// What the library says in its log alone of a session that it begins, and our word for it.
const (
	wrongAS  = "bad-peer-as"
	noOpen   = "invalid-msg"       // a refusal came in place of a greeting (OPEN)
	cutOff   = "closed-at-once"    // the connection was, before a greeting
	noAnswer = "failed to connect" // the cause follows
)

// overheard notes it.
func (s *Speaker) overheard(a netip.Addr, why string) {
	s.mu.Lock()
	now := s.peers[a]
	was := now.why
	if why == cutOff && (was == wrongAS || was == noOpen) {
		why = was // a router that has refused a session takes none for a while
	}
	now.why = why
	if now.state != sessionUp {
		s.peers[a] = now
	}
	s.mu.Unlock()
	if was != why && now.state != sessionUp {
		s.changed()
	}
}

// explain says what is wrong with a session, and what to do.
func (s *Speaker) explain(p route.Peer, st peerState) string {
	password := "does it want a password (--announcer-bgp-passwords)"
	if s.passwords[p.Addr.Addr()] != "" {
		password = "is the password that of the router (TCP MD5 drops what is signed otherwise without a word)"
	}
	at := p.Addr.String()
	switch cause, failed := strings.CutPrefix(st.why, noAnswer); {
	case failed && strings.Contains(cause, syscall.ECONNREFUSED.Error()):
		return fmt.Sprintf("nobody listens on %s: does BGP run there, and on that port?", at)
	case failed && (strings.Contains(cause, syscall.EHOSTUNREACH.Error()) || strings.Contains(cause, syscall.ENETUNREACH.Error())):
		return fmt.Sprintf("%s is not there, or there is no way to it: mend --announcer-bgp-peers or the network (%s)", at, strings.TrimPrefix(cause, ": "))
	case failed && strings.Contains(cause, syscall.EADDRNOTAVAIL.Error()):
		return fmt.Sprintf("%s is no address of this host: mend --announcer-bgp-local", s.cfg.Local)
	case failed && strings.Contains(cause, "timeout"):
		return fmt.Sprintf("%s does not answer: is it there, is a filter between, %s?", at, password)
	case failed:
		return fmt.Sprintf("no TCP connection with %s%s", at, cause)
	case st.why == cutOff:
		return fmt.Sprintf("the router closes the connection at once: does it know this host as a neighbour, by the address that it sees (--announcer-bgp-local)? %s?", password)
	case st.why == wrongAS, strings.Contains(st.why, "sent") && strings.Contains(strings.ToLower(st.why), "bad peer as"), strings.Contains(st.why, "sent code 2(open message error) subcode 2"):
		return fmt.Sprintf("the router is of another AS than %d: mend --announcer-bgp-peers", p.AS)
	case strings.Contains(strings.ToLower(st.why), "bad peer as"), strings.Contains(st.why, "received code 2(open message error) subcode 2"):
		return fmt.Sprintf("the router expects another AS of this host than %d: mend --announcer-bgp-as, or the router (%s)", s.cfg.AS, st.why)
	case st.why == noOpen:
		return fmt.Sprintf("the router refuses the session at its beginning: it does not expect AS %d here, or not this address: mend --announcer-bgp-as, --announcer-bgp-local, or the router", s.cfg.AS)
	case st.why != "":
		return st.why
	}
	return fmt.Sprintf("no TCP connection with %s yet", at)
}

// Announce sends routes, and what was sent of the same prefixes is replaced.
func (s *Speaker) Announce(_ context.Context, routes []route.Route) error {
	paths := make([]*apiutil.Path, len(routes))
	for i, r := range routes {
		p, err := s.path(r)
		if err != nil {
			return fmt.Errorf("announce %s: %w", r.Prefix, err)
		}
		paths[i] = p
	}
	done, err := s.server.AddPath(apiutil.AddPathRequest{Paths: paths})
	for i, d := range done {
		if d.Error != nil {
			err = errors.Join(err, fmt.Errorf("announce %s: %w", routes[i].Prefix, d.Error))
		}
	}
	return err
}

// Withdraw takes back routes; those that were not announced are no error.
func (s *Speaker) Withdraw(_ context.Context, prefixes []netip.Prefix) error {
	paths := make([]*apiutil.Path, len(prefixes))
	for i, p := range prefixes {
		path, err := s.path(route.Route{Prefix: p})
		if err != nil {
			return fmt.Errorf("withdraw %s: %w", p, err)
		}
		path.Withdrawal = true
		paths[i] = path
	}
	if err := s.server.DeletePath(apiutil.DeletePathRequest{Paths: paths}); err != nil {
		return fmt.Errorf("withdraw: %w", err)
	}
	return nil
}

func (s *Speaker) path(r route.Route) (*apiutil.Path, error) {
	nlri, err := wire.NewIPAddrPrefix(r.Prefix)
	if err != nil {
		return nil, err
	}
	attrs := []wire.PathAttributeInterface{wire.NewPathAttributeOrigin(wire.BGP_ORIGIN_ATTR_TYPE_IGP), wire.NewPathAttributeMultiExitDisc(r.MED)}
	if r.Prepend > 0 {
		path := slices.Repeat([]uint32{uint32(s.cfg.AS)}, r.Prepend)
		attrs = append(attrs, wire.NewPathAttributeAsPath([]wire.AsPathParamInterface{wire.NewAs4PathParam(wire.BGP_ASPATH_ATTR_TYPE_SEQ, path)}))
	}
	if len(r.Communities) > 0 {
		cs := make([]uint32, len(r.Communities))
		for i, c := range r.Communities {
			cs[i] = uint32(c)
		}
		attrs = append(attrs, wire.NewPathAttributeCommunities(cs))
	}
	if len(r.LargeCommunities) > 0 {
		cs := make([]*wire.LargeCommunity, len(r.LargeCommunities))
		for i, c := range r.LargeCommunities {
			cs[i] = wire.NewLargeCommunity(c.ASN, c.Data1, c.Data2)
		}
		attrs = append(attrs, wire.NewPathAttributeLargeCommunities(cs))
	}
	// The unspecified address becomes that of the session.
	if r.Prefix.Addr().Is4() {
		hop := netip.IPv4Unspecified()
		if s.cfg.NextHop4.IsValid() {
			hop = s.cfg.NextHop4
		}
		a, err := wire.NewPathAttributeNextHop(hop)
		if err != nil {
			return nil, err
		}
		return &apiutil.Path{Nlri: nlri, Family: wire.RF_IPv4_UC, Attrs: append(attrs, a)}, nil
	}
	hop := netip.IPv6Unspecified()
	if s.cfg.NextHop6.IsValid() {
		hop = s.cfg.NextHop6
	}
	a, err := wire.NewPathAttributeMpReachNLRI(wire.RF_IPv6_UC, []wire.PathNLRI{{NLRI: nlri}}, hop)
	if err != nil {
		return nil, err
	}
	return &apiutil.Path{Nlri: nlri, Family: wire.RF_IPv6_UC, Attrs: append(attrs, a)}, nil
}

// Stop ends all sessions. With keep, and graceful restart, routers are let believe that this
// one comes back; otherwise they take the routes away at once.
func (s *Speaker) Stop(keep bool) error {
	err := s.server.StopBgp(context.Background(), &api.StopBgpRequest{AllowGracefulRestart: keep && s.cfg.GracefulRestart > 0})
	if err != nil {
		return fmt.Errorf("stop BGP: %w", err)
	}
	<-s.served
	return nil
}

// ear is a handler of the library's log. Of sessions that this side begins the library says in
// its log alone why they fail; that is taken from there, and nothing but errors is logged.
type ear struct {
	slog.Handler
	speaker *Speaker
	router  netip.Addr
}

func (e ear) Enabled(context.Context, slog.Level) bool { return true }

func (e ear) Handle(ctx context.Context, r slog.Record) error {
	if e.router.IsValid() {
		if why := reason(r); why != "" {
			e.speaker.overheard(e.router, why)
		}
	}
	if r.Level < slog.LevelError || !e.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return e.Handler.Handle(ctx, r)
}

// reason is why a session failed, if a record is about that.
func reason(r slog.Record) string {
	said := map[string]slog.Value{}
	r.Attrs(func(a slog.Attr) bool {
		said[a.Key] = a.Value
		return true
	})
	switch r.Message {
	case "failed to connect":
		if text := said["Error"].String(); !strings.Contains(text, context.Canceled.Error()) {
			return noAnswer + ": " + text
		}
	case "outgoing connection IO error":
		return cutOff
	case "sent notification":
		if said["Code"].Kind() != slog.KindInt64 || said["Subcode"].Kind() != slog.KindInt64 {
			return ""
		}
		switch code, sub := said["Code"].Int64(), said["Subcode"].Int64(); {
		case code == wire.BGP_ERROR_OPEN_MESSAGE_ERROR && sub == wire.BGP_ERROR_SUB_BAD_PEER_AS:
			return wrongAS
		case code == wire.BGP_ERROR_FSM_ERROR:
			return noOpen
		}
	}
	return ""
}

func (e ear) WithAttrs(all []slog.Attr) slog.Handler {
	e.Handler = e.Handler.WithAttrs(all)
	for _, a := range all {
		if a.Key == "Key" {
			if addr, err := netip.ParseAddr(a.Value.String()); err == nil {
				e.router = addr
			}
		}
	}
	return e
}

func (e ear) WithGroup(g string) slog.Handler {
	e.Handler = e.Handler.WithGroup(g)
	return e
}
