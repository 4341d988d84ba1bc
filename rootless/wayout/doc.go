// Package wayout is the way out for TCP that passes no user-space network stack:
// what a container connects to is connected to by this process, from the host,
// and the kernel passes the bytes on between two sockets.
//
// The container must see what it would see without. So its SYN is held until the
// outgoing connection stands, or does not:
//
//	container ── SYN ─▶ device ─▶ Way: dials the destination
//	                                ├─ connected: the same SYN goes back into the device, from where the kernel
//	                                │  leads it to a listener; what is accepted there is relayed
//	                                ├─ refused: a RST
//	                                ├─ unreachable: an ICMP error
//	                                └─ no answer: none
//
// The device is a tun; which SYNs come out of it, and that those which go back
// in reach the listener, is for its maker to see to (package holder).
package wayout
