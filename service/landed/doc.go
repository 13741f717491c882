// Package landed gives programs the configurations that landed, by the proxy of their
// machine (`zonecast run proxy`).
//
//	client := landed.NewClient(landed.DefaultSocket)
//	limits, err := landed.Subscribe(landed.Options[Limits]{
//		Client: client, Path: "app/limits", Cache: "/var/lib/app",
//		Apply: func(l Limits, v landed.Value) error { return app.SetLimits(l) },
//	})
//	// limits.Run(ctx) is a task of the program.
//
// Invariant: a subscriber is given versions in their order, or the newest one, never an
// older one after a newer one. A value that cannot be decoded, or that the subscriber
// refuses, leaves the last good one in force; so does a configuration that is removed, and a
// proxy that is dead.
//
// In: answers of the proxy, bounded; a directory. Out: values, and how old they are.
package landed
