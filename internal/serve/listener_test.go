package serve

import (
	"net/netip"
	"testing"
)

func TestWhoGivesWay(t *testing.T) {
	t.Parallel()
	a, b, c := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	type held struct {
		from  netip.Addr
		stage stage
	}
	for name, tt := range map[string]struct {
		open []held // the oldest first; at most 4, 3 of an address
		from netip.Addr
		want int // which one; -1 for none
		room bool
	}{
		"there is room":                   {[]held{{a, answering}, {b, unfinished}}, a, -1, true},
		"the oldest":                      {[]held{{a, unfinished}, {b, unfinished}, {a, unfinished}, {b, unfinished}}, c, 0, true},
		"no one that is answered":         {[]held{{a, answering}, {b, unfinished}, {a, unfinished}, {b, unfinished}}, c, 1, true},
		"one of those that hold more":     {[]held{{a, unfinished}, {b, unfinished}, {b, unfinished}, {b, unfinished}}, c, 1, true},
		"none with a complete header":     {[]held{{a, asking}, {b, unfinished}, {a, asking}, {a, idle}}, c, 1, true},
		"one that waits for a review":     {[]held{{a, idle}, {b, idle}, {b, idle}, {a, asking}}, c, 3, true},
		"one that asks nothing now":       {[]held{{a, answering}, {b, idle}, {b, answering}, {a, answering}}, c, 1, true},
		"nobody":                          {[]held{{a, answering}, {b, answering}, {b, answering}, {a, answering}}, c, -1, false},
		"its own, if there are enough":    {[]held{{b, unfinished}, {a, asking}, {a, answering}, {a, idle}}, a, 1, true},
		"its own, although others fit":    {[]held{{a, idle}, {a, unfinished}, {a, unfinished}}, a, 1, true},
		"none of others, if its own stay": {[]held{{b, unfinished}, {a, answering}, {a, answering}, {a, answering}}, a, -1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &listener{bounds: bounds{connections: 4, perAddress: 3}}
			for _, h := range tt.open {
				l.open = append(l.open, &conn{from: h.from, stage: h.stage})
			}
			gives, room := l.giveWay(tt.from)
			got := -1
			for i, c := range l.open {
				if c == gives {
					got = i
				}
			}
			if got != tt.want || room != tt.room {
				t.Errorf("%d gives way, room: %t; want %d, %t", got, room, tt.want, tt.room)
			}
		})
	}
}
