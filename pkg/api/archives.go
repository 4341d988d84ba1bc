package api

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// trailing is how much may follow the end of an archive, in bytes: padding.
const trailing = 16 << 20

// archiveBuffer is how much of an archive is gathered before it is sent: an
// error until then still gets its status.
const archiveBuffer = 128 << 10

func (s *Server) loadImages(w *response, r *request) error {
	platform, err := onePlatform(r.strs("platform"))
	if err != nil {
		return err
	}
	quiet := r.flagOr("quiet", true)
	return s.tell(w, r, func(ctx context.Context, p *progress) error {
		report := func(m moss.Progress) {
			// What was loaded is told below, once, as docker tells it. Quiet
			// clients miss how far layers are, not what became of them.
			if (!quiet || m.ID == "") && !strings.HasPrefix(m.Status, "Loaded image") {
				p.report(m)
			}
		}
		images, err := s.o.Archives.Load(ctx, r.Body, moss.LoadOptions{Platform: platform}, report)
		if err != nil {
			return err
		}
		_, _ = io.CopyN(io.Discard, r.Body, trailing) // else the client could find its connection reset
		for _, img := range images {
			line := "Loaded image: " + familiar(img.Name) + "\n"
			if img.Name == "" {
				line = "Loaded image ID: " + string(img.ID) + "\n"
			}
			p.stream(line)
		}
		return nil
	})
}

func (s *Server) saveImages(w *response, r *request) error {
	names := r.strs("names")
	if r.name != "" {
		names = []string{r.name}
	}
	if len(names) == 0 {
		return invalid("no image is named: use the parameter names")
	}
	platform, err := onePlatform(r.strs("platform"))
	if err != nil {
		return err
	}
	ctx, cancel := s.stream(r.Context())
	defer cancel()
	return s.sendTar(w, "application/x-tar", func(to io.Writer) error {
		return s.o.Archives.Save(ctx, moss.SaveRequest{Refs: names, Platform: platform}, to)
	})
}

func (s *Server) exportContainer(w *response, r *request) error {
	ctx, cancel := s.stream(r.Context())
	defer cancel()
	return s.sendTar(w, "application/octet-stream", func(to io.Writer) error {
		from, err := s.o.Files.Export(ctx, r.containerRef())
		if err != nil {
			return err
		}
		_, err = io.Copy(to, from)
		if e := from.Close(); err == nil {
			err = e
		}
		return err
	})
}

// sendTar answers with what write writes. Nothing is sent before there is
// something to send; after that an error can only break the connection off, or
// the client would take the half for the whole.
func (s *Server) sendTar(w *response, kind string, write func(io.Writer) error) error {
	w.Header().Set("Content-Type", kind)
	to := bufio.NewWriterSize(w, archiveBuffer)
	err := write(to)
	if err == nil {
		err = to.Flush()
	}
	if err == nil || !w.begun {
		return err
	}
	s.log.Warn("an archive was cut short", "error", err)
	panic(http.ErrAbortHandler)
}
