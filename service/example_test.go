package service_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/service"
)

// A command with options, two tasks and a status page, whole.
func Example() {
	cfg := struct {
		Gather time.Duration `option:"gather" help:"how long a burst is gathered"`
	}{Gather: 20 * time.Millisecond}

	run := func(ctx context.Context) error {
		svc, err := service.New(service.Config{Name: "presenter", Version: "v1", Notify: service.NotifierFrom(os.Getenv)})
		if err != nil {
			return err
		}
		claims := service.NewQueue("claims", 1, 100, func(_ context.Context, claim string) error {
			fmt.Println("presents", claim)
			return nil
		})
		svc.Add(
			service.Task{Name: "reader", Once: true, Run: func(ctx context.Context) error {
				for _, claim := range []string{"www.example.net. A", "www.example.net. AAAA"} {
					if _, err := claims.SubmitWait(ctx, claim); err != nil {
						return err
					}
				}
				claims.Close()
				return nil
			}},
			claims.Task(),
		)
		return svc.Run(ctx)
	}

	cmd := &cobra.Command{Use: "presenter", RunE: func(cmd *cobra.Command, _ []string) error {
		if err := service.Load(cmd, os.LookupEnv, ""); err != nil {
			return err
		}
		fmt.Println("gathers for", cfg.Gather)
		return run(cmd.Context())
	}}
	if err := service.Declare(cmd, "presenter", &cfg); err != nil {
		fmt.Println(err)
	}
	cmd.SetArgs([]string{"--presenter-gather", "5ms"})
	service.Main(func(ctx context.Context) int {
		if err := cmd.ExecuteContext(ctx); err != nil {
			fmt.Println(err)
			return 1
		}
		return 0
	})
	// Output:
	// gathers for 5ms
	// presents www.example.net. A
	// presents www.example.net. AAAA
}
