package main

import (
	"context"
	"errors"
	"slices"
	"syscall"

	"github.com/go-sql-driver/mysql"

	"syncgate/agent"
	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/config"
	"syncgate/protocol"
	"syncgate/ruleset"
	"syncgate/store"
)

// Exit codes for scripts, of sysexits(3), beside those of package cli.
const (
	exitData  = 65 // rows are in a quarantine, or the input is wrong
	exitLater = 75 // try later: not reached, busy, in use, interrupted
)

// refusals are the statuses of a server that do not mean to try later.
var refusals = map[protocol.Status]int{
	protocol.StatusRejected: cli.ExitConfig, protocol.StatusVersionUnsupported: cli.ExitConfig,
	protocol.StatusNoRule: cli.ExitConfig, protocol.StatusUnknownTable: cli.ExitConfig,
	protocol.StatusRuleBroken: cli.ExitConfig, protocol.StatusRuleDisabled: cli.ExitConfig,
	protocol.StatusSQLError: cli.ExitConfig, protocol.StatusRequestMismatch: exitData,
	protocol.StatusRowRefused: exitData, protocol.StatusTooLarge: exitData,
}

// noAccess are the database's errors about the account and its rights.
var noAccess = []uint16{1044, 1045, 1049, 1142, 1143, 1227, 1370, 1419, 1698}

// exitCode is the code of one failure.
func exitCode(err error) int {
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
	}
	exit, setting, broken := (*cli.ExitError)(nil), (*config.Error)(nil), (*ruleset.BrokenError)(nil)
	refused, reject := (*agent.Refusal)(nil), (*protocol.RejectError)(nil)
	wrong, my := (*store.SQLError)(nil), (*mysql.MySQLError)(nil)
	switch {
	case errors.As(err, &exit):
		return exit.Code
	case errors.As(err, &setting), errors.As(err, &broken), errors.As(err, &wrong),
		errors.As(err, &my) && slices.Contains(noAccess, my.Number),
		is(store.ErrSchema, store.ErrUnsafe, agent.ErrOtherPoint):
		return cli.ExitConfig
	case errors.As(err, &refused) && refusals[refused.Code] != 0:
		return refusals[refused.Code]
	case errors.As(err, &reject) && refusals[reject.Status] != 0:
		return refusals[reject.Status]
	case is(agent.ErrData):
		return exitData
	case refused != nil && refused.Transient(), reject != nil, is(agent.ErrNotReached, agent.ErrTaken, agent.ErrLost,
		store.ErrUnavailable, store.ErrRetry, store.ErrReadOnly, context.Canceled, syscall.ENOSPC):
		return exitLater
	}
	return cli.ExitFailed
}

// worst is the code that a person has to look at first: settings, then data, then failures, then what a later try
// cures.
func worst(a, b int) int {
	order := []int{cli.ExitOK, exitLater, cli.ExitFailed, exitData, cli.ExitConfig, cli.ExitUsage}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// withCode gives err its exit code.
func withCode(err error) error {
	if err == nil {
		return nil
	}
	return &cli.ExitError{Code: exitCode(err), Err: err}
}
