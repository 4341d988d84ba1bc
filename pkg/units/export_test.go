package units

// Disconnect cuts the connection and returns when its loss is seen.
func Disconnect(m *Manager) {
	m.mu.Lock()
	l := m.link
	m.mu.Unlock()
	_ = l.conn.Close() // its error is that it is closed
	for {
		m.mu.Lock()
		gone, changed := m.link != l, m.changed
		m.mu.Unlock()
		if gone {
			return
		}
		<-changed
	}
}
