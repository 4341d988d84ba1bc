package seccomp

import (
	"errors"
	"fmt"
	"io"
	"os"

	upstream "moss.invalid/libseccomp-golang"
)

// Source returns the program of a filter: compiled (ScmpFilter.Compile), or
// one compiled earlier from a filter of the same Key.
type Source func(*ScmpFilter) ([]byte, error)

var source Source = (*ScmpFilter).Compile

// SetSource sets where ExportBPF has programs from, for all filters from now
// on; nil sets it back to Compile. It is for a program's start, not for
// goroutines beside each other.
func SetSource(s Source) {
	if s == nil {
		s = (*ScmpFilter).Compile
	}
	source = s
}

// ScmpFilter is a filter whose rules have not reached libseccomp yet. Unlike
// upstream's, it is for one goroutine at a time.
type ScmpFilter struct {
	real   *upstream.ScmpFilter
	rules  []rule // not yet in real
	broken error  // a rule libseccomp has refused: real lacks it
	log    history
	stands *Key // the filter this one stands in for, see standInPrefix
}

type rule struct {
	call       ScmpSyscall
	action     ScmpAction
	conditions []ScmpCondition
}

// NewFilter returns a filter with no rules.
func NewFilter(defaultAction ScmpAction) (*ScmpFilter, error) {
	inner, err := upstream.NewFilter(defaultAction)
	if err != nil {
		return nil, err
	}
	f := &ScmpFilter{real: inner}
	f.log.note(opDefault, uint64(defaultAction))
	return f, nil
}

// underlying is upstream's filter; an invalid one, whose methods say so, for
// the zero ScmpFilter. libcontainer asks that one which attributes there are.
func (f *ScmpFilter) underlying() *upstream.ScmpFilter {
	if f.real == nil {
		return &upstream.ScmpFilter{}
	}
	return f.real
}

// AddArch adds an architecture.
func (f *ScmpFilter) AddArch(arch ScmpArch) error {
	return f.change(opArch, uint64(arch), func(r *upstream.ScmpFilter) error { return r.AddArch(arch) })
}

// SetNoNewPrivsBit says whether loading sets no_new_privs.
func (f *ScmpFilter) SetNoNewPrivsBit(state bool) error {
	return f.change(opNoNewPrivs, bit(state), func(r *upstream.ScmpFilter) error { return r.SetNoNewPrivsBit(state) })
}

// SetLogBit says whether actions are logged.
func (f *ScmpFilter) SetLogBit(state bool) error {
	return f.change(opLog, bit(state), func(r *upstream.ScmpFilter) error { return r.SetLogBit(state) })
}

// SetSSB says whether loading leaves Speculative Store Bypass alone.
func (f *ScmpFilter) SetSSB(state bool) error {
	return f.change(opSSB, bit(state), func(r *upstream.ScmpFilter) error { return r.SetSSB(state) })
}

// SetWaitKill says whether notified calls wait killable only.
func (f *ScmpFilter) SetWaitKill(state bool) error {
	return f.change(opWaitKill, bit(state), func(r *upstream.ScmpFilter) error { return r.SetWaitKill(state) })
}

// SetOptimize sets the shape of the program: 1 a chain, 2 a tree.
func (f *ScmpFilter) SetOptimize(level int) error {
	return f.change(opOptimize, uint64(level), func(r *upstream.ScmpFilter) error { return r.SetOptimize(level) })
}

// GetNoNewPrivsBit returns what SetNoNewPrivsBit has set.
func (f *ScmpFilter) GetNoNewPrivsBit() (bool, error) { return f.underlying().GetNoNewPrivsBit() }

// GetLogBit returns what SetLogBit has set.
func (f *ScmpFilter) GetLogBit() (bool, error) { return f.underlying().GetLogBit() }

// GetSSB returns what SetSSB has set.
func (f *ScmpFilter) GetSSB() (bool, error) { return f.underlying().GetSSB() }

// GetWaitKill returns what SetWaitKill has set.
func (f *ScmpFilter) GetWaitKill() (bool, error) { return f.underlying().GetWaitKill() }

// AddRule takes action at every call. What is wrong with a rule is said by
// Compile.
func (f *ScmpFilter) AddRule(call ScmpSyscall, action ScmpAction) error {
	return f.AddRuleConditional(call, action, nil)
}

// AddRuleConditional takes action at calls that fulfil all conditions.
func (f *ScmpFilter) AddRuleConditional(call ScmpSyscall, action ScmpAction, conditions []ScmpCondition) error {
	if f.real == nil {
		return errors.New("filter is invalid or uninitialized")
	}
	if key, ok := standInOf(call); ok {
		return f.standFor(key)
	}
	conditions = append([]ScmpCondition(nil), conditions...)
	f.rules = append(f.rules, rule{call, action, conditions})
	f.log.noteRule(call, action, conditions)
	return nil
}

// change makes a change that is no rule, at once, because its error means
// something to libcontainer; rules that came before it go before it.
func (f *ScmpFilter) change(op op, value uint64, do func(*upstream.ScmpFilter) error) error {
	if err := f.flush(); err != nil {
		return err
	}
	if err := do(f.underlying()); err != nil {
		return err
	}
	f.log.note(op, value)
	return nil
}

// flush gives the rules to libseccomp, in their order.
func (f *ScmpFilter) flush() error {
	for _, r := range f.rules {
		if f.broken != nil {
			break
		}
		var err error
		if len(r.conditions) == 0 {
			err = f.real.AddRule(r.call, r.action)
		} else {
			err = f.real.AddRuleConditional(r.call, r.action, r.conditions)
		}
		if err != nil {
			f.broken = fmt.Errorf("cannot add the seccomp rule for system call %d: %w", int32(r.call), err)
		}
	}
	f.rules = nil
	return f.broken
}

// Compile has libseccomp make the program: struct sock_filter after struct
// sock_filter, see seccomp_export_bpf(3).
func (f *ScmpFilter) Compile() ([]byte, error) {
	if f.stands != nil {
		return nil, fmt.Errorf("the seccomp program %x is not there, and only its name is known", f.stands[:])
	}
	if err := f.flush(); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	exported := make(chan error, 1)
	go func() {
		err := f.underlying().ExportBPF(w)
		exported <- errors.Join(err, w.Close())
	}()
	program, err := io.ReadAll(r)
	if err := errors.Join(<-exported, err); err != nil {
		return nil, err
	}
	return program, nil
}

// ExportBPF writes the source's program to file.
func (f *ScmpFilter) ExportBPF(file *os.File) error {
	program, err := source(f)
	if err != nil {
		return err
	}
	_, err = file.Write(program)
	return err
}
