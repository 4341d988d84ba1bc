package api

import "github.com/moss-containers/moss/pkg/moss"

// links reads the legacy links; the engine knows what they lead to.
func (d *createDecoder) links() error {
	for _, s := range d.in.HostConfig.Links {
		l, err := moss.ParseLink(s)
		if err != nil {
			return err
		}
		d.out.Host.Links = append(d.out.Host.Links, l)
	}
	return nil
}
