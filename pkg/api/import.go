package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// importImage makes an image of a root file system's tar, from the body or a URL.
func (s *Server) importImage(w *response, r *request, platform string) error {
	src := r.str("fromSrc")
	if src == "" {
		return invalid("neither fromImage nor fromSrc says what to make an image of")
	}
	name, err := tagName(r.str("repo"), r.str("tag"))
	if err != nil {
		return err
	}
	o := moss.ImportOptions{Reference: name, Message: r.str("message"), Changes: r.strs("changes")}
	if o.Message == "" {
		o.Message = "Imported from " + src
	}
	if platform != "" {
		p := splitPlatform(platform)
		o.OS, o.Architecture, o.Variant = p.OS, p.Architecture, p.Variant
	}
	return s.tell(w, r, func(ctx context.Context, p *progress) error {
		body := io.ReadCloser(r.Body)
		if src != "-" {
			if body, err = fetch(ctx, src, p); err != nil {
				return err
			}
		}
		defer body.Close()
		img, err := s.o.Archives.Import(ctx, body, o)
		if err != nil {
			return err
		}
		if src == "-" {
			_, _ = io.CopyN(io.Discard, body, trailing) // else the client could find its connection reset
		}
		p.status(string(img.ID))
		return nil
	})
}

// fetcher gets what an import names by URL. It gives a server that stays silent
// up, but sets no limit to the whole: the client can leave.
var fetcher = &http.Client{
	Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   30 * time.Second,
		ResponseHeaderTimeout: time.Minute,
		DisableKeepAlives:     true,
		DisableCompression:    true, // a .tar.gz is to stay what it is
	},
}

// fetch opens a URL; without a scheme it is one of http, as docker has it.
func fetch(ctx context.Context, src string, p *progress) (io.ReadCloser, error) {
	if !strings.Contains(src, "://") {
		src = "http://" + src
	}
	u, err := url.Parse(src)
	switch {
	case err != nil:
		return nil, invalid("invalid URL: %w", err)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, invalid("cannot import from %q: want a URL of http or https, or - for the request's body", u.Redacted())
	case u.Host == "":
		return nil, invalid("cannot import from %q: the URL names no host", u.Redacted())
	}
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, invalid("invalid URL: %w", err)
	}
	res, err := fetcher.Do(rq)
	if err != nil {
		return nil, fetchError(u, err)
	}
	if res.StatusCode != http.StatusOK {
		_ = res.Body.Close()
		return nil, moss.Errorf(fetchClass(res.StatusCode), "failed to GET %s with status %s", u.Redacted(), res.Status)
	}
	p.status("Downloading from " + u.Redacted())
	return &counted{ReadCloser: res.Body, total: max(res.ContentLength, 0), p: p}, nil
}

func fetchError(u *url.URL, err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // its text would repeat the URL, password and all
	}
	return moss.Errorf(moss.Unavailable, "failed to GET %s: %w", u.Redacted(), err)
}

func fetchClass(status int) moss.Class {
	switch {
	case status == http.StatusNotFound || status == http.StatusGone:
		return moss.NotFound
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return moss.Forbidden
	case status >= http.StatusInternalServerError:
		return moss.Unavailable
	}
	return moss.Invalid
}

// counted reports how much of a download was read.
type counted struct {
	io.ReadCloser
	p           *progress
	read, total int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.read += int64(n)
	c.p.report(moss.Progress{Status: "Importing", Current: c.read, Total: c.total})
	return n, err
}
