// Package api speaks the Docker Engine API: one route table, handlers that
// decode, call one service and encode, and the one table from error classes to
// HTTP statuses. The wire types are moby's; no other package of the daemon
// knows them.
package api
