package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/container"

	"github.com/moss-containers/moss/pkg/moss"
)

// pathStatHeader has what is known of the path that a request names.
const pathStatHeader = "X-Docker-Container-Path-Stat"

func (r *request) path() (string, error) {
	if r.str("path") == "" {
		return "", moss.Errorf(moss.Invalid, "bad parameter: 'path' cannot be empty")
	}
	return r.str("path"), nil
}

func (s *Server) statPath(w *response, r *request) error {
	path, err := r.path()
	if err != nil {
		return err
	}
	st, err := s.o.Copies.Stat(r.Context(), r.containerRef(), path)
	if err != nil {
		return err
	}
	w.Header().Set(pathStatHeader, encodePathStat(st))
	w.WriteHeader(http.StatusOK)
	return nil
}

func encodePathStat(st moss.PathStat) string {
	b, _ := json.Marshal(container.PathStat{Name: st.Name, Size: st.Size, Mode: st.Mode, Mtime: st.ModTime, LinkTarget: st.LinkTarget}) // never fails
	return base64.StdEncoding.EncodeToString(b)
}

func (s *Server) getArchive(w *response, r *request) error {
	path, err := r.path()
	if err != nil {
		return err
	}
	ctx, cancel := s.stream(r.Context())
	defer cancel()
	return s.sendTar(w, "application/x-tar", func(to io.Writer) error {
		st, from, err := s.o.Copies.Pack(ctx, r.containerRef(), path)
		if err != nil {
			return err
		}
		w.Header().Set(pathStatHeader, encodePathStat(st))
		_, err = io.Copy(to, from)
		return errors.Join(err, from.Close())
	})
}

func (s *Server) putArchive(w *response, r *request) error {
	path, err := r.path()
	if err != nil {
		return err
	}
	ctx, cancel := s.stream(r.Context())
	defer cancel()
	err = s.o.Copies.Unpack(ctx, r.containerRef(), path, r.Body, r.flag("noOverwriteDirNonDir"), r.flag("copyUIDGID"))
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) changes(w *response, r *request) error {
	list, err := s.o.Copies.Changes(r.Context(), r.containerRef())
	if err != nil {
		return err
	}
	out := make([]container.FilesystemChange, 0, len(list))
	for _, c := range list {
		out = append(out, container.FilesystemChange{Path: c.Path, Kind: container.ChangeType(c.Kind)})
	}
	return writeJSON(w, http.StatusOK, out)
}
