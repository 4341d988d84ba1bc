package local

// Disconnect cuts every watch's connection.
func Disconnect(c *Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.watches {
		if w.conn != nil {
			_ = w.conn.Close()
		}
	}
}
