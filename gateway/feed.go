package gateway

import (
	"context"
	"sync"
)

// feed passes what happens to any number of readers and waits for none. It keeps the last items; a reader that is
// further behind has missed some.
type feed[T any] struct {
	mu      sync.Mutex
	items   []T // the last ones
	next    uint64
	most    int           // items that are kept, about
	news    chan struct{} // closed at the next add; nil: nobody waits
	readers int
}

// watching is how many read.
func (f *feed[T]) watching() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.readers
}

// join makes the caller a reader of what comes from now on. It calls leave when it ends.
func (f *feed[T]) join() (at uint64, leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers++
	return f.next, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.readers--; f.readers == 0 {
			f.items = nil
		}
	}
}

// add passes items to the readers.
func (f *feed[T]) add(items ...T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next += uint64(len(items))
	if f.readers == 0 {
		return
	}
	f.items = append(f.items, items...)
	if len(f.items) > 2*f.most { // now and then, so that an add costs little
		f.items = append([]T{}, f.items[len(f.items)-f.most:]...)
	}
	if f.news != nil {
		close(f.news)
		f.news = nil
	}
}

// read waits for what comes at or after a place and returns it with the next place. missed is how many items are no
// longer kept.
func (f *feed[T]) read(ctx context.Context, at uint64) (items []T, next, missed uint64, err error) {
	for {
		f.mu.Lock()
		if at < f.next {
			items = f.items[len(f.items)-int(min(f.next-at, uint64(len(f.items)))):]
			next, missed = f.next, f.next-at-uint64(len(items))
			f.mu.Unlock()
			return items, next, missed, nil
		}
		if f.news == nil {
			f.news = make(chan struct{})
		}
		news := f.news
		f.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			return nil, at, 0, ctx.Err()
		}
	}
}
