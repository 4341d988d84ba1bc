package moss

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// Class says what kind of failure an error is; pkg/api maps it to an HTTP
// status in one table.
type Class uint8

// The classes of error.
const (
	Internal       Class = iota // a fault of ours or of the machine
	Invalid                     // the request makes no sense as it is
	NotFound                    // the named thing does not exist
	Conflict                    // the thing is in a state that forbids it, or the name is taken
	NotModified                 // nothing to do: already started, already stopped
	NotImplemented              // moss does not do this; the message says the way out
	Forbidden                   // not allowed
	Unavailable                 // something moss needs is missing or down
	TooLarge                    // the request is over a limit
	Unauthorized                // a registry does not accept the credentials, or wants some
)

var classNames = [...]string{"internal", "invalid", "not found", "conflict", "not modified", "not implemented", "forbidden", "unavailable", "too large", "unauthorized"}

func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return "class " + strconv.Itoa(int(c))
}

// Error is an operation that failed on a subject. Its text is
// `cannot OP "ID": ERR`, or ERR alone where Op is empty.
type Error struct {
	Class Class
	Op    string // what could not be done: "mount rootfs of"; may be empty
	ID    string // the subject as the user knows it; may be empty
	Err   error
}

func (e *Error) Error() string {
	switch {
	case e.Op == "":
		return e.Err.Error()
	case e.ID == "":
		return "cannot " + e.Op + ": " + e.Err.Error()
	default:
		return "cannot " + e.Op + " " + strconv.Quote(e.ID) + ": " + e.Err.Error()
	}
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of a class whose text is the format alone (no
// "cannot"), for messages whose words docker's clients know.
func Errorf(class Class, format string, args ...any) error {
	return &Error{Class: class, Err: fmt.Errorf(format, args...)}
}

// Wrap says what could not be done to which subject. The class of err is kept.
// A nil err gives nil.
func Wrap(err error, op, id string) error {
	if err == nil {
		return nil
	}
	return &Error{Class: ClassOf(err), Op: op, ID: id, Err: err}
}

// ClassOf returns the class of the outermost Error in err's chain, Unavailable
// for a cancelled context, Internal otherwise.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Unavailable
	}
	return Internal
}
