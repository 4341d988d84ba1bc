package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containers/image/v5/docker"
	"github.com/distribution/reference"
	"github.com/docker/distribution/registry/api/errcode"
	v2 "github.com/docker/distribution/registry/api/v2"

	"github.com/moss-containers/moss/pkg/moss"
)

// StatusError is an answer of a registry that says nothing but its number.
type StatusError struct {
	Status int
	After  time.Duration // of Retry-After
	Text   string
}

func (e *StatusError) Error() string {
	if e.Text != "" {
		return e.Text
	}
	return fmt.Sprintf("received unexpected HTTP status: %d %s", e.Status, http.StatusText(e.Status))
}

// Retryable says whether a failure may be gone when the same is tried again,
// and how long to wait at least. An answer that there are too many requests is not: the library has waited for
// as long as the registry asked, several times.
func Retryable(err error) (after time.Duration, ok bool) {
	if err == nil || errors.Is(err, context.Canceled) {
		return 0, false
	}
	if e, is := errors.AsType[*StatusError](err); is {
		return e.After, e.Status >= 500 && e.Status != http.StatusNotImplemented || e.Status == http.StatusTooManyRequests
	}
	if status := statusOf(err); status != 0 {
		return 0, status >= 500 && status != http.StatusNotImplemented || status == http.StatusRequestTimeout
	}
	if isHopeless(err) {
		return 0, false
	}
	return 0, isNetwork(err)
}

// isNetwork says whether it is the network that broke, and not, say, the disk.
func isNetwork(err error) bool {
	for _, broken := range []error{
		io.ErrUnexpectedEOF, io.EOF, net.ErrClosed, syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.ECONNABORTED, syscall.EPIPE,
		syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ENETDOWN,
	} {
		if errors.Is(err, broken) {
			return true
		}
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return true
	}
	e, ok := errors.AsType[net.Error](err)
	_, any := e.(syscall.Errno) // every number has the methods of one
	return ok && !any
}

// isHopeless says whether the way to a registry is wrong, not just broken.
func isHopeless(err error) bool {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if isAlert(err) {
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return true
	}
	return errors.Is(err, http.ErrSchemeMismatch)
}

// isAlert says whether the registry ended the talk with an alert of TLS: most
// often it wants a certificate of ours.
func isAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error" // crypto/tls; the type of what is in it is private
}

// statusOf finds the HTTP status of the library's errors, 0 for none.
func statusOf(err error) int {
	if e, ok := errors.AsType[*StatusError](err); ok {
		return e.Status
	}
	if e, ok := errors.AsType[*wordedError](err); ok {
		return e.status
	}
	if e, ok := errors.AsType[docker.UnexpectedHTTPStatusError](err); ok {
		return e.StatusCode
	}
	if _, ok := errors.AsType[docker.ErrUnauthorizedForCredentials](err); ok {
		return http.StatusUnauthorized
	}
	if errors.Is(err, docker.ErrTooManyRequests) {
		return http.StatusTooManyRequests
	}
	if e, ok := errorOf(err); ok {
		return e.Code.Descriptor().HTTPStatusCode
	}
	if err != nil {
		if m := wordless.FindStringSubmatch(err.Error()); m != nil {
			n, _ := strconv.Atoi(m[1]) // three digits
			return n
		}
	}
	return 0
}

// wordless is in the library's error for an answer without words of a registry; its type is private.
var wordless = regexp.MustCompile(`StatusCode: ([1-5][0-9]{2}), "((?:[^"\\]|\\.)*)"`)

// errorOf finds what a registry said in its own words.
func errorOf(err error) (errcode.Error, bool) {
	if e, ok := errors.AsType[errcode.Error](err); ok {
		e.Message = moss.Shown(e.Message)
		return e, true
	}
	if many, ok := errors.AsType[errcode.Errors](err); ok && len(many) > 0 {
		return errorOf(many[0])
	}
	if code, ok := errors.AsType[errcode.ErrorCode](err); ok {
		return code.WithArgs(), true
	}
	return errcode.Error{}, false
}

// failure gives the errors of a pull docker's words and a class.
func failure(ctx context.Context, err error, ref reference.Named) error {
	if err == nil || ctx.Err() != nil {
		return broken(ctx, err, "")
	}
	if e, ok := errorOf(err); ok {
		name := reference.FamiliarName(ref)
		switch e.Code {
		case errcode.ErrorCodeDenied:
			return moss.Errorf(moss.NotFound, "pull access denied for %s, repository does not exist or may require 'docker login': %w", name, e)
		case v2.ErrorCodeManifestUnknown:
			return moss.Errorf(moss.NotFound, "manifest for %s not found: %w", reference.FamiliarString(ref), e)
		case v2.ErrorCodeNameUnknown:
			return moss.Errorf(moss.NotFound, "repository %s not found: %w", name, e)
		}
	}
	return broken(ctx, err, reference.Domain(ref))
}

// broken gives the library's errors a class, and what the registry said alone where it said something.
func broken(ctx context.Context, err error, host string) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err() // whatever else it broke
	}
	if _, done := errors.AsType[*moss.Error](err); done {
		return err
	}
	err = worded(registryFirst(err))
	class := moss.Unavailable
	switch status := statusOf(err); status {
	case 0:
		return unreachable(err, host)
	case http.StatusUnauthorized:
		class = moss.Unauthorized
	case http.StatusForbidden:
		class = moss.Forbidden
	case http.StatusNotFound:
		class = moss.NotFound
	case http.StatusBadRequest:
		class = moss.Invalid
	}
	if e, ok := errorOf(err); ok && class != moss.Unavailable {
		return moss.Errorf(class, "%w", e)
	}
	return moss.Errorf(class, "%w", err)
}

// unreachable says what to do where the way to a registry is the trouble.
func unreachable(err error, host string) error {
	if errors.Is(err, http.ErrSchemeMismatch) {
		return moss.Errorf(moss.Unavailable, "%w; if %s has no TLS, name it in \"insecure-registries\" of daemon.json", err, host)
	}
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	if unknown || invalid {
		return moss.Errorf(moss.Unavailable, "%w; put its CA's certificate into certs.d/%s/ca.crt beside daemon.json", err, host)
	}
	if isAlert(err) {
		return moss.Errorf(moss.Unavailable, "%w; if %s asks for a certificate, put yours as client.cert and client.key into certs.d/%[2]s beside daemon.json", err, host)
	}
	if _, ok := Retryable(err); ok || isHopeless(err) {
		return moss.Errorf(moss.Unavailable, "%w", err)
	}
	return err
}

// worded says in words what the library gives as a number alone.
func worded(err error) error {
	m := wordless.FindStringSubmatch(err.Error())
	if m == nil || m[2] != "" {
		return err
	}
	n, _ := strconv.Atoi(m[1])
	return &wordedError{err, n, strings.Replace(err.Error(), m[0], fmt.Sprintf("the registry answers %d %s", n, http.StatusText(n)), 1)}
}

type wordedError struct {
	err    error
	status int
	text   string
}

func (e *wordedError) Error() string { return e.text }
func (e *wordedError) Unwrap() error { return e.err }

const alsoFailed = "(Mirrors also failed: "

// registryFirst turns the library's error for a registry and its mirrors
// around: what the registry itself said goes first, and all is in one line.
func registryFirst(err error) error {
	own := errors.Unwrap(err)
	rest, ok := strings.CutPrefix(err.Error(), alsoFailed)
	if !ok || own == nil {
		return err
	}
	mirrors := strings.TrimSuffix(rest, own.Error())
	mirrors = mirrors[:max(strings.LastIndex(mirrors, "): "), 0)] // what follows is the image's name
	return &mirroredError{err: own, mirrors: strings.ReplaceAll(mirrors, "\n", ", ")}
}

type mirroredError struct {
	err     error
	mirrors string
}

func (e *mirroredError) Error() string {
	return e.err.Error() + "; its mirrors failed as well: " + e.mirrors
}
func (e *mirroredError) Unwrap() error { return e.err }
