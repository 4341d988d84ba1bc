package api

import "github.com/moss-containers/moss/pkg/moss"

// label reads an option of a container's SELinux labels. Not to be labelled can be
// asked for everywhere.
func (d *createDecoder) label(opt, value string) error {
	if err := moss.CheckLabelOption(value); err != nil {
		return moss.Errorf(moss.Invalid, "invalid --security-opt %q: %w", opt, err)
	}
	if value != moss.LabelDisable && !d.s.selinux() {
		return moss.Errorf(moss.NotImplemented, "--security-opt %s: this machine's kernel has no SELinux: use label=disable", opt)
	}
	d.out.Host.LabelOpts = append(d.out.Host.LabelOpts, value)
	return nil
}
