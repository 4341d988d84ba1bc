package api

import (
	"net/http"

	"github.com/moby/moby/api/types/container"

	"github.com/moss-containers/moss/pkg/moss"
)

func (s *Server) stats(w *response, r *request) error {
	mode := moss.StatsStream
	switch {
	case r.flagOr("stream", true):
	case r.flag("one-shot"):
		mode = moss.StatsOnce
	default:
		mode = moss.StatsPair
	}
	ctx, cancel := s.stream(r.Context())
	defer cancel()
	err := s.o.Use.Stats(ctx, r.containerRef(), mode, func(st moss.Stats) error {
		out := encodeStats(st, r.version)
		if mode != moss.StatsStream {
			return writeJSON(w, http.StatusOK, out)
		}
		if !w.begun {
			w.Header().Set("Content-Type", "application/json")
		}
		if err := encode(w, out); err != nil {
			return err
		}
		w.flush()
		return nil
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func encodeStats(st moss.Stats, v version) container.StatsResponse {
	now := st.Now
	out := container.StatsResponse{
		ID: string(st.ID), Name: "/" + st.Name, Read: now.At, PreRead: st.Before.At,
		CPUStats: encodeCPU(now), PreCPUStats: encodeCPU(st.Before),
		MemoryStats: container.MemoryStats{Usage: now.Memory, Limit: now.MemoryLimit, Stats: now.MemoryStats, Failcnt: now.MemoryFailures},
		PidsStats:   container.PidsStats{Current: now.PIDs, Limit: now.PIDsLimit},
	}
	if !v.before(v1(52)) {
		out.OSType = "linux"
	}
	for _, b := range now.BlockIO {
		out.BlkioStats.IoServiceBytesRecursive = append(out.BlkioStats.IoServiceBytesRecursive,
			container.BlkioStatEntry{Major: b.Major, Minor: b.Minor, Op: b.Op, Value: b.Bytes})
	}
	if len(now.Networks) > 0 {
		out.Networks = map[string]container.NetworkStats{}
	}
	for name, n := range now.Networks {
		out.Networks[name] = container.NetworkStats{
			RxBytes: n.RxBytes, RxPackets: n.RxPackets, RxErrors: n.RxErrors, RxDropped: n.RxDropped,
			TxBytes: n.TxBytes, TxPackets: n.TxPackets, TxErrors: n.TxErrors, TxDropped: n.TxDropped,
		}
	}
	return out
}

func encodeCPU(s moss.Sample) container.CPUStats {
	return container.CPUStats{
		CPUUsage:    container.CPUUsage{TotalUsage: uint64(s.CPU), UsageInUsermode: uint64(s.CPUUser), UsageInKernelmode: uint64(s.CPUKern)},
		SystemUsage: uint64(s.SystemCPU), OnlineCPUs: uint32(s.CPUs),
		ThrottlingData: container.ThrottlingData{Periods: s.Periods, ThrottledPeriods: s.Throttled, ThrottledTime: uint64(s.ThrottledTime)},
	}
}
