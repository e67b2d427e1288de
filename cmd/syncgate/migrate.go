package main

import (
	"errors"
	"fmt"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

func newMigrate() *cobra.Command {
	var s settings
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the central database's schema forward; safe to run twice at once",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			cfg, err := s.load()
			if err != nil {
				return err
			}
			ran := 0
			db, err := openCentre(c.Context(), cfg, zerolog.Nop(), true, func(name string) {
				ran++
				fmt.Fprintln(c.OutOrStdout(), name)
			})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, db.Close()) }()
			if ran == 0 {
				fmt.Fprintln(c.OutOrStdout(), "the schema is up to date")
			}
			return nil
		},
	}
	s.flags(c)
	return c
}
