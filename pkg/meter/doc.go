// Package meter looks at the processes of running containers: which there are,
// and what they use, by proc(5) and by the files of their unit's cgroup.
package meter
