package pull

import (
	"errors"
	"fmt"
	"testing"
)

func TestParseContentRange(t *testing.T) {
	t.Parallel()
	tests := []struct {
		value   string
		want    contentRange
		wantErr error
	}{
		{value: "bytes 0-0/1", want: contentRange{span{0, 1}, 1}},
		{value: "bytes 0-4194303/2147483648", want: contentRange{span{0, 4194304}, 2147483648}},
		{value: "Bytes 5-9/10", want: contentRange{span{5, 10}, 10}},
		{value: "bytes 5-9/*", want: contentRange{span{5, 10}, -1}},
		{value: " bytes 5-9/10\t", want: contentRange{span{5, 10}, 10}},
		{value: "bytes 0-9223372036854775806/9223372036854775807", want: contentRange{span{0, 9223372036854775807}, 9223372036854775807}},
		{value: "", wantErr: errRangeSyntax},
		{value: "bytes", wantErr: errRangeSyntax},
		{value: "bytes=0-1/2", wantErr: errRangeSyntax},
		{value: "bytes */10", wantErr: errRangeSyntax},
		{value: "items 0-1/2", wantErr: errRangeSyntax},
		{value: "bytes 0-1", wantErr: errRangeSyntax},
		{value: "bytes 01/2", wantErr: errRangeSyntax},
		{value: "bytes -1/2", wantErr: errRangeSyntax},
		{value: "bytes 1-/2", wantErr: errRangeSyntax},
		{value: "bytes 2-1/3", wantErr: errRangeSyntax},
		{value: "bytes 0-2/2", wantErr: errRangeSyntax},
		{value: "bytes 0-0/0", wantErr: errRangeSyntax},
		{value: "bytes +0-1/2", wantErr: errRangeSyntax},
		{value: "bytes 0 - 1/2", wantErr: errRangeSyntax},
		{value: "bytes 0-1/2 ", want: contentRange{span{0, 2}, 2}},
		{value: "bytes 0-1/2/3", wantErr: errRangeSyntax},
		{value: "bytes 0-1/0x10", wantErr: errRangeSyntax},
		{value: "bytes 0-1/1_000", wantErr: errRangeSyntax},
		{value: "bytes 0-1/-2", wantErr: errRangeNegative},
		{value: "bytes 0-1/-", wantErr: errRangeSyntax},
		{value: "bytes 0-1/9223372036854775808", wantErr: errRangeOverflow},
		{value: "bytes 0-1/99999999999999999999999999", wantErr: errRangeOverflow},
		{value: "bytes 0-9223372036854775807/*", wantErr: errRangeSyntax},
	}
	for _, tt := range tests {
		t.Run(tt.value, func(t *testing.T) {
			t.Parallel()
			got, err := parseContentRange(tt.value)
			if !errors.Is(err, tt.wantErr) || err == nil && got != tt.want {
				t.Errorf("parseContentRange(%q) = %v, %v; want %v, %v", tt.value, got, err, tt.want, tt.wantErr)
			}
		})
	}
}

// FuzzParseContentRange checks that what is accepted is consistent and means
// what it says: written out again, it parses to the same.
func FuzzParseContentRange(f *testing.F) {
	for _, seed := range []string{"bytes 0-0/1", "bytes 5-9/*", "bytes */10", "bytes 0-1/-2", "bytes 0-1/99999999999999999999", "BYTES 7-7/8"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got, err := parseContentRange(value)
		if err != nil {
			return
		}
		if got.span.start < 0 || got.span.len() <= 0 || got.total >= 0 && got.span.end > got.total {
			t.Fatalf("parseContentRange(%q) = %v, which no object can have", value, got)
		}
		total := "*"
		if got.total >= 0 {
			total = fmt.Sprint(got.total)
		}
		again, err := parseContentRange(got.span.header() + "/" + total)
		if err != nil || again != got {
			t.Fatalf("parseContentRange(%q) = %v, but written out again %v, %v", value, got, again, err)
		}
	})
}
