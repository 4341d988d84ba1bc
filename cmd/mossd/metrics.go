package main

import (
	"context"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/moss-containers/moss/pkg/api"
	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/version"
)

// metrics measures for Prometheus, under docker's names where docker has them.
// It does so by decorators of the engine's ports (phases) and of the API's
// services, in place only where metrics-addr asks for them.
type metrics struct {
	registry *prometheus.Registry
	actions  *prometheus.HistogramVec // of the API, by what is done
	phases   *prometheus.HistogramVec // of a container's start
	events   prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		actions: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "engine_daemon_container_actions_seconds", Help: "The number of seconds it takes to process each container action",
		}, []string{"action"}),
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "moss_start_phase_seconds", Help: "The number of seconds that each phase of a container's start takes",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2, 16),
		}, []string{"phase"}),
		events: prometheus.NewCounter(prometheus.CounterOpts{Name: "engine_daemon_events_total", Help: "The number of events logged"}),
	}
	m.registry.MustRegister(m.actions, m.phases, m.events,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// watch adds what is asked of the engine at each scrape.
func (m *metrics) watch(d *daemon) {
	m.registry.MustRegister(&engineCollector{d: d})
}

// serve answers at the address until ctx ends.
func (m *metrics) serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	hs := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = hs.Close() }) // nobody misses the rest of a scrape
	defer stop()
	return ignoreEnd(ctx, hs.Serve(l))
}

var (
	infoDesc   = prometheus.NewDesc("engine_daemon_engine_info", "The information related to the engine and the OS it is running on", []string{"version", "commit", "architecture", "graphdriver", "kernel", "os", "os_version", "os_type", "daemon_id"}, nil)
	cpusDesc   = prometheus.NewDesc("engine_daemon_engine_cpus_cpus", "The number of cpus that the host system of the engine has", nil, nil)
	memoryDesc = prometheus.NewDesc("engine_daemon_engine_memory_bytes", "The number of bytes of memory that the host system of the engine has", nil, nil)
	statesDesc = prometheus.NewDesc("engine_daemon_container_states_containers", "The count of containers in various states", []string{"state"}, nil)
)

// engineCollector tells of the engine as it is.
type engineCollector struct{ d *daemon }

func (c *engineCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{infoDesc, cpusDesc, memoryDesc, statesDesc} {
		ch <- d
	}
}

func (c *engineCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	info, err := c.d.engine.System().Info(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(infoDesc, err)
		return
	}
	h := info.Host
	ch <- prometheus.MustNewConstMetric(infoDesc, prometheus.GaugeValue, 1,
		version.Version, version.Commit, h.Architecture, info.Storage.Driver, h.KernelVersion, h.OperatingSystem, h.OSVersion, runtime.GOOS, info.ID)
	ch <- prometheus.MustNewConstMetric(cpusDesc, prometheus.GaugeValue, float64(h.CPUs))
	ch <- prometheus.MustNewConstMetric(memoryDesc, prometheus.GaugeValue, float64(h.Memory))
	counts := map[string]int{"running": 0, "paused": 0, "stopped": 0}
	for state, n := range info.Containers {
		switch state {
		case moss.StateRunning, moss.StateRestarting:
			counts["running"] += n
		case moss.StatePaused:
			counts["paused"] += n
		default:
			counts["stopped"] += n
		}
	}
	for state, n := range counts {
		ch <- prometheus.MustNewConstMetric(statesDesc, prometheus.GaugeValue, float64(n), state)
	}
}

// since observes the time from begun on, where it ended well.
func since(h prometheus.Observer, begun time.Time, err error) {
	if err == nil {
		h.Observe(time.Since(begun).Seconds())
	}
}

type countedEvents struct {
	engine.Events
	n prometheus.Counter
}

func (c countedEvents) Publish(e moss.Event) {
	c.n.Inc()
	c.Events.Publish(e)
}

// containers puts a decorator around the service that changes containers.
func (m *metrics) containers(s api.Containers) api.Containers {
	return timedContainers{s, m.actions.WithLabelValues("create"), m.actions.WithLabelValues("start"), m.actions.WithLabelValues("delete")}
}

type timedContainers struct {
	api.Containers
	create, start, remove prometheus.Observer
}

func (t timedContainers) Create(ctx context.Context, r api.CreateRequest) (_ moss.ContainerID, _ []string, err error) {
	defer func(b time.Time) { since(t.create, b, err) }(time.Now())
	return t.Containers.Create(ctx, r)
}

func (t timedContainers) Start(ctx context.Context, ref string) (err error) {
	defer func(b time.Time) { since(t.start, b, err) }(time.Now())
	return t.Containers.Start(ctx, ref)
}

func (t timedContainers) Remove(ctx context.Context, ref string, force bool) (err error) {
	defer func(b time.Time) { since(t.remove, b, err) }(time.Now())
	return t.Containers.Remove(ctx, ref, force)
}
