package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/pkg/moss"
)

func (a *app) configCommand() *cli.Command {
	c := command("config", "", "show the settings that are in force, and where each is from; also commands for configs", 0, 0, []cli.Flag{
		&cli.StringFlag{Name: "format", Usage: "Go `TEMPLATE`, \"json\", or \"table TEMPLATE\""},
	}, a.config)
	c.Subcommands = a.keptCommands(moss.KindConfig)
	return c
}

func (a *app) bootTimesCommand() *cli.Command {
	return command("boot-times", "", "show how long each step of the engine's start took", 0, 0, []cli.Flag{
		&cli.StringFlag{Name: "format", Usage: "Go `TEMPLATE`, \"json\", or \"table TEMPLATE\""},
	}, a.bootTimes)
}

func (a *app) config(c *cli.Context) error {
	var settings []struct {
		Key   string
		Value json.RawMessage
		From  string
	}
	if err := a.askInside(c.Context, "/debug/config", &settings); err != nil {
		return err
	}
	rows := make([]map[string]string, 0, len(settings))
	for _, s := range settings {
		value := string(s.Value)
		var text string
		if json.Unmarshal(s.Value, &text) == nil {
			value = text
		}
		if value == "null" {
			value = ""
		}
		rows = append(rows, map[string]string{"Key": s.Key, "Value": value, "From": s.From})
	}
	return printRows(a.out, c.String("format"), `{{.Key}}	{{.Value}}	{{.From}}`, []column{{"Key", "KEY"}, {"Value", "VALUE"}, {"From", "FROM"}}, rows)
}

func (a *app) bootTimes(c *cli.Context) error {
	var steps []struct {
		Name   string
		Took   time.Duration
		Behind bool
	}
	if err := a.askInside(c.Context, "/debug/boot-times", &steps); err != nil {
		return err
	}
	rows := make([]map[string]string, 0, len(steps)+1)
	var total time.Duration
	for _, s := range steps {
		if s.Behind {
			s.Name += " (behind the start)"
		} else {
			total += s.Took
		}
		rows = append(rows, map[string]string{"Step": s.Name, "Took": s.Took.Round(100 * time.Microsecond).String()})
	}
	rows = append(rows, map[string]string{"Step": "total", "Took": total.Round(100 * time.Microsecond).String()})
	return printRows(a.out, c.String("format"), `{{.Step}}	{{.Took}}`, []column{{"Step", "STEP"}, {"Took", "TOOK"}}, rows)
}

// askInside gets what is below /debug of the engine.
func (a *app) askInside(ctx context.Context, path string, v any) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return api.Dialer()(ctx)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://moss"+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("cannot reach the engine at %s: %w", a.hostURL(), err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		var e struct{ Message string }
		if json.Unmarshal(body, &e) != nil || e.Message == "" {
			e.Message = string(bytes.TrimSpace(body))
		}
		return errors.New(e.Message)
	}
	return json.Unmarshal(body, v)
}

// dialStdio joins stdin and stdout to the engine's socket: docker -H ssh://
// runs it on the machine that the engine is on, under the name docker.
func (a *app) dialStdio(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	conn, err := api.Dialer()(c.Context)
	if err != nil {
		return fmt.Errorf("cannot reach the engine at %s: %w", a.hostURL(), err)
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, bufio.NewReader(a.in)) // its end shows at the other side
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}()
	_, err = io.Copy(a.out, conn)
	if err != nil && strings.Contains(err.Error(), "closed") {
		return nil
	}
	return err
}
