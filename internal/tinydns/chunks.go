package tinydns

// chunks is a slice that grows without copying what is there.
type chunks[T any] struct {
	list [][]T
	n    int
}

const chunkSize = 1 << 13 // elements

func (c *chunks[T]) add(v T) {
	k := c.n / chunkSize
	if k == len(c.list) {
		size := 0 // the first grows as slices do: most files are small
		if k > 0 {
			size = chunkSize
		}
		c.list = append(c.list, make([]T, 0, size))
	}
	c.list[k] = append(c.list[k], v)
	c.n++
}

func (c *chunks[T]) at(i uint32) *T { return &c.list[i/chunkSize][i%chunkSize] }
