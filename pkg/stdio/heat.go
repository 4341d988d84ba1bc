package stdio

import "time"

// A process that prints line by line can wake the daemon for each line, which
// costs more than all that is done with the line. A pipe that does so is hot:
// it is not waited for, but read at intervals in which output gathers in it.
const (
	// A pipe gets hot by hotReads reads within a while that bring little, more
	// often than one every coldEvery.
	coldEvery = 200 * time.Microsecond
	hotReads  = 20
	little    = chunkSize / 4

	// Between two reads of a hot pipe. The longest is a delay that nobody
	// notices, the shortest is still worth a timer.
	minGather   = 100 * time.Microsecond
	maxGather   = time.Millisecond
	firstGather = minGather * 2

	// A read of a hot pipe is to bring a share of what the pipe holds, so that
	// the process does not find it full: writes may use half of each page.
	gatherShare = 6

	// Gathering pays where a read brings so many times what it brings without.
	// Where it does not, each message waits for an answer to the one before, and
	// gathering would only slow that down: it is left off for a while.
	pays      = 3
	poorReads = 4
	leftOff   = 200 * time.Millisecond
)

// heat says how the pipe of a pump is to be read. Its zero value is cold.
type heat struct {
	hot    bool
	last   time.Time     // when it was read
	level  time.Duration // cold: coldEvery for each read, less the time that has passed
	usual  int           // what a read of the cold pipe brings, in bytes
	gather time.Duration // hot: from a read to the next
	poor   int           // hot: reads that did not pay, less those that did
	off    time.Time     // cold until then
}

// read notes that n bytes were read at now; zero for a hot pipe that was
// found empty. The size is what the pipe holds.
func (h *heat) read(now time.Time, n, size int) {
	passed := now.Sub(h.last)
	h.last = now
	if h.hot {
		h.readHot(now, passed, n, size)
	} else {
		h.readCold(now, passed, n)
	}
}

func (h *heat) readCold(now time.Time, passed time.Duration, n int) {
	h.level = max(0, h.level-passed)
	if n >= little {
		return // there is nothing to gain
	}
	h.level += coldEvery
	if h.usual == 0 {
		h.usual = n
	}
	h.usual += (n - h.usual) / 8
	if h.level > hotReads*coldEvery && !now.Before(h.off) {
		h.hot, h.gather, h.poor = true, firstGather, 0
	}
}

func (h *heat) readHot(now time.Time, passed time.Duration, n, size int) {
	switch {
	case n == 0: // it pauses; if that was short, some reads make it hot again
		h.hot, h.level = false, (hotReads-4)*coldEvery
		return
	case n < pays*h.usual:
		if h.poor++; h.poor == poorReads {
			h.leave(now)
			return
		}
	default:
		h.poor = max(0, h.poor-1)
	}
	aim := time.Duration(min(size/gatherShare, chunkSize))
	h.gather = max(minGather, min(passed*aim/time.Duration(n), 2*h.gather, maxGather))
}

// leave makes the pipe cold for a while.
func (h *heat) leave(now time.Time) {
	h.hot, h.level, h.off = false, 0, now.Add(leftOff)
}

// due is when a hot pipe is to be read next.
func (h *heat) due() time.Time { return h.last.Add(h.gather) }
