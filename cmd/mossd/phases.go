package main

import (
	"context"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/network"
	ociruntime "github.com/moss-containers/moss/pkg/runtime"
	"github.com/moss-containers/moss/pkg/stdio"
	"github.com/moss-containers/moss/pkg/volume"
)

// phases are what the engine goes through for a container: calls of its ports,
// measured for Prometheus and followed by spans, by decorators that are in place
// only where one of the two is asked for.
type phases struct {
	metrics *metrics // nil for none
	traces  *tracing // nil for none
}

// phase is one of them. The names of metrics are older than the spans'.
type phase struct{ span, metric string }

var (
	createLayer    = phase{span: "rootfs.create"}
	mountRootfs    = phase{"rootfs.mount", "mount"}
	unmountRootfs  = phase{span: "rootfs.unmount"}
	removeLayer    = phase{span: "rootfs.remove"}
	attachNetwork  = phase{"network.attach", "network"}
	detachNetwork  = phase{span: "network.detach"}
	publishPorts   = phase{span: "network.publish"}
	mountVolume    = phase{span: "volume.mount"}
	unmountVolume  = phase{span: "volume.unmount"}
	fillVolume     = phase{span: "volume.fill"}
	openStreams    = phase{span: "stdio.open"}
	awaitStreams   = phase{span: "stdio.ready"}
	restoreStreams = phase{span: "stdio.restore"}
	finishStreams  = phase{span: "stdio.finish"}
	prepareBundle  = phase{"runtime.prepare", "bundle"}
	letGo          = phase{"runtime.start", "start"}
	execProcess    = phase{span: "runtime.exec"}
	deleteBundle   = phase{span: "runtime.delete"}
	startUnit      = phase{"unit.start", "unit"}
	signalUnit     = phase{span: "unit.kill"}
	collectUnit    = phase{span: "unit.collect"}
)

// begin is called before a phase; the function it returns, with the error, after.
func (p phases) begin(ctx context.Context, ph phase, id moss.ContainerID) (context.Context, func(*error)) {
	begun := time.Now()
	ctx, end := p.traces.child(ctx, ph.span, id)
	return ctx, func(err *error) {
		end(*err)
		if p.metrics != nil && ph.metric != "" && *err == nil {
			p.metrics.phases.WithLabelValues(ph.metric).Observe(time.Since(begun).Seconds())
		}
	}
}

// decorate puts the decorators in the place of what they stand before.
func (p phases) decorate(d *engine.Deps, store lateRootfs, nets *network.Networks, oci *ociruntime.Runtime, u engine.Units, streams *stdio.Hub, vols *volume.Store) {
	d.Rootfs = observedRootfs{store, p}
	d.Networks = observedNetworks{nets, p}
	d.Runtime = observedRuntime{oci, p}
	d.Units = observedUnits{u, p}
	if p.traces != nil {
		d.Stdio = observedStdio{streams, p}
		d.VolumeUse, d.VolumeData = observedVolumes{vols, p}, observedVolumes{vols, p}
		d.Transfers = observedTransfers{d.Transfers, p.traces}
		d.Tracer = p.traces
	}
}

type observedRootfs struct {
	lateRootfs
	p phases
}

func (o observedRootfs) Create(ctx context.Context, id moss.ContainerID, image moss.ImageID) (err error) {
	ctx, end := o.p.begin(ctx, createLayer, id)
	defer end(&err)
	return o.lateRootfs.Create(ctx, id, image)
}

func (o observedRootfs) CreateVolatile(ctx context.Context, id moss.ContainerID, image moss.ImageID) (err error) {
	ctx, end := o.p.begin(ctx, createLayer, id)
	defer end(&err)
	return o.lateRootfs.CreateVolatile(ctx, id, image)
}

func (o observedRootfs) CreateMapped(ctx context.Context, id moss.ContainerID, image moss.ImageID, maps moss.IDMaps, volatile bool) (err error) {
	ctx, end := o.p.begin(ctx, createLayer, id)
	defer end(&err)
	return o.lateRootfs.CreateMapped(ctx, id, image, maps, volatile)
}

func (o observedRootfs) Mount(ctx context.Context, id moss.ContainerID) (_ moss.Mount, err error) {
	ctx, end := o.p.begin(ctx, mountRootfs, id)
	defer end(&err)
	return o.lateRootfs.Mount(ctx, id)
}

func (o observedRootfs) MountLabelled(ctx context.Context, id moss.ContainerID, label string) (_ moss.Mount, err error) {
	ctx, end := o.p.begin(ctx, mountRootfs, id)
	defer end(&err)
	return o.lateRootfs.MountLabelled(ctx, id, label)
}

func (o observedRootfs) Unmount(ctx context.Context, id moss.ContainerID) (err error) {
	ctx, end := o.p.begin(ctx, unmountRootfs, id)
	defer end(&err)
	return o.lateRootfs.Unmount(ctx, id)
}

func (o observedRootfs) Remove(ctx context.Context, id moss.ContainerID) (err error) {
	ctx, end := o.p.begin(ctx, removeLayer, id)
	defer end(&err)
	return o.lateRootfs.Remove(ctx, id)
}

type observedNetworks struct {
	*network.Networks
	p phases
}

func (o observedNetworks) Attach(ctx context.Context, c *moss.Container) (_ moss.Attachment, err error) {
	ctx, end := o.p.begin(ctx, attachNetwork, c.ID)
	defer end(&err)
	return o.Networks.Attach(ctx, c)
}

func (o observedNetworks) Detach(ctx context.Context, id moss.ContainerID, a moss.Attachment) (err error) {
	ctx, end := o.p.begin(ctx, detachNetwork, id)
	defer end(&err)
	return o.Networks.Detach(ctx, id, a)
}

func (o observedNetworks) Publish(ctx context.Context, id moss.ContainerID, a moss.Attachment, ports []moss.PortBinding) (_ []moss.PublishedPort, err error) {
	ctx, end := o.p.begin(ctx, publishPorts, id)
	defer end(&err)
	return o.Networks.Publish(ctx, id, a, ports)
}

type observedVolumes struct {
	*volume.Store
	p phases
}

func (o observedVolumes) Mount(ctx context.Context, name string, id moss.ContainerID) (err error) {
	ctx, end := o.p.begin(ctx, mountVolume, id)
	defer end(&err)
	return o.Store.Mount(ctx, name, id)
}

func (o observedVolumes) Unmount(ctx context.Context, name string, id moss.ContainerID) (err error) {
	ctx, end := o.p.begin(ctx, unmountVolume, id)
	defer end(&err)
	return o.Store.Unmount(ctx, name, id)
}

func (o observedVolumes) Fill(ctx context.Context, name string, from moss.Mount, dir string) (err error) {
	ctx, end := o.p.begin(ctx, fillVolume, "")
	defer end(&err)
	return o.Store.Fill(ctx, name, from, dir)
}

type observedStdio struct {
	*stdio.Hub
	p phases
}

func (o observedStdio) Open(ctx context.Context, id moss.StreamID, s moss.StdioSpec, sink engine.LogSink) (_ moss.ChildStdio, err error) {
	ctx, end := o.p.begin(ctx, openStreams, "")
	defer end(&err)
	return o.Hub.Open(ctx, id, s, sink)
}

func (o observedStdio) Ready(ctx context.Context, id moss.StreamID) (err error) {
	ctx, end := o.p.begin(ctx, awaitStreams, "")
	defer end(&err)
	return o.Hub.Ready(ctx, id)
}

func (o observedStdio) Restore(ctx context.Context, id moss.StreamID, s moss.StdioSpec, sink engine.LogSink) (err error) {
	ctx, end := o.p.begin(ctx, restoreStreams, "")
	defer end(&err)
	return o.Hub.Restore(ctx, id, s, sink)
}

func (o observedStdio) Finish(ctx context.Context, id moss.StreamID) (err error) {
	ctx, end := o.p.begin(ctx, finishStreams, "")
	defer end(&err)
	return o.Hub.Finish(ctx, id)
}

type observedRuntime struct {
	*ociruntime.Runtime
	p phases
}

func (o observedRuntime) Prepare(ctx context.Context, b moss.Bundle) (_ moss.Launch, err error) {
	ctx, end := o.p.begin(ctx, prepareBundle, b.Container.ID)
	defer end(&err)
	return o.Runtime.Prepare(ctx, b)
}

func (o observedRuntime) Start(ctx context.Context, c *moss.Container) (err error) {
	ctx, end := o.p.begin(ctx, letGo, c.ID)
	defer end(&err)
	return o.Runtime.Start(ctx, c)
}

func (o observedRuntime) Exec(ctx context.Context, c *moss.Container, e *moss.Exec, io moss.ChildStdio) (_ engine.Process, err error) {
	ctx, end := o.p.begin(ctx, execProcess, c.ID)
	defer end(&err)
	return o.Runtime.Exec(ctx, c, e, io)
}

func (o observedRuntime) Delete(ctx context.Context, c *moss.Container) (err error) {
	ctx, end := o.p.begin(ctx, deleteBundle, c.ID)
	defer end(&err)
	return o.Runtime.Delete(ctx, c)
}

type observedUnits struct {
	engine.Units
	p phases
}

func (o observedUnits) Start(ctx context.Context, u moss.UnitSpec) (_ moss.UnitStatus, err error) {
	ctx, end := o.p.begin(ctx, startUnit, u.ID)
	defer end(&err)
	return o.Units.Start(ctx, u)
}

func (o observedUnits) Kill(ctx context.Context, id moss.ContainerID, sig syscall.Signal) (err error) {
	o.p.traces.signals(id, trace.SpanFromContext(ctx))
	ctx, end := o.p.begin(ctx, signalUnit, id)
	defer end(&err)
	return o.Units.Kill(ctx, id, sig)
}

func (o observedUnits) Collect(ctx context.Context, id moss.ContainerID) (err error) {
	ctx, end := o.p.begin(ctx, collectUnit, id)
	defer end(&err)
	return o.Units.Collect(ctx, id)
}
