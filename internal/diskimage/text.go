package diskimage

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// textKind names the kind of text that an object begins with, or returns "" for binary
// data. The bytes decide, not the Content-Type: login pages come with any. A sector is
// looked at, without the zeros that fill it up: what follows a sector of text may be
// anything, and is no disk in any case.
func textKind(head []byte) string {
	sector := bytes.TrimRight(head[:min(len(head), sectorSize)], "\x00")
	if isUTF16(sector) {
		return "text (UTF-16)"
	}
	sector = bytes.TrimPrefix(sector, []byte("\xef\xbb\xbf"))
	trimmed := bytes.TrimLeft(sector, " \t\r\n\f")
	switch {
	case isHTML(strings.ToLower(string(trimmed[:min(len(trimmed), 32)]))):
		return "an HTML page"
	case bytes.HasPrefix(trimmed, []byte("<?xml")):
		return "text (XML)"
	case !isUTF8(sector) && !isLegacyText(sector):
		return ""
	case len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '['):
		return "text (JSON?)"
	}
	return "text"
}

func isHTML(start string) bool {
	for _, tag := range []string{"<!doctype html", "<html", "<head", "<body", "<script", "<title", "<meta", "<!--"} {
		if strings.HasPrefix(start, tag) {
			return true
		}
	}
	return false
}

// isUTF8 reports whether every byte can occur in a UTF-8 text. A rune cut off by
// the end is no objection.
func isUTF8(data []byte) bool {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size <= 1 {
			return i > 0 && len(data)-i < utf8.UTFMax && !utf8.FullRune(data[i:])
		}
		if r < ' ' && isControl(byte(r)) || r == 0x7f {
			return false
		}
		i += size
	}
	return len(data) > 0
}

// isLegacyText judges by shares, since no byte is impossible in all of the older
// encodings (ISO 8859, Shift JIS, GBK, KOI8) and a stray one must not decide: hardly any
// control characters, where random and machine code have one byte in nine, and either
// mostly ASCII or words and lines. A fill pattern has neither.
func isLegacyText(data []byte) bool {
	controls, spaces, ascii := 0, 0, 0
	for _, b := range data {
		switch {
		case isControl(b):
			controls++
		case b <= ' ':
			spaces++
			ascii++
		case b < 0x7f:
			ascii++
		}
	}
	return len(data) > 0 && controls*32 < len(data) && (spaces*64 >= len(data) || ascii*10 >= len(data)*9)
}

// isControl reports whether a byte below 0x80 is a control character that texts do not use.
func isControl(b byte) bool {
	return b < ' ' && strings.IndexByte("\t\n\r\f\x1b", b) < 0 || b == 0x7f
}

// isUTF16 reports whether data is UTF-16: by its mark, and no unit of it is a
// control character, a lone surrogate or unassigned; or without one, if nearly all of
// it is ASCII.
func isUTF16(data []byte) bool {
	if len(data) < 8 {
		return false
	}
	order, marked := binary.ByteOrder(binary.LittleEndian), false
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xfe")):
		marked = true
	case bytes.HasPrefix(data, []byte("\xfe\xff")):
		order, marked = binary.BigEndian, true
	case data[0] == 0:
		order = binary.BigEndian
	}
	units := make([]uint16, 0, len(data)/2)
	for i := 0; i+1 < len(data); i += 2 { // the zero of a last unit may have been trimmed
		units = append(units, order.Uint16(data[i:]))
	}
	if last := len(units) - 1; utf16.IsSurrogate(rune(units[last])) {
		units = units[:last] // its other half is cut off
	}
	runes, ascii := utf16.Decode(units), 0
	for i, r := range runes {
		if i == 0 && marked {
			continue
		}
		if r == utf8.RuneError || r < 0x80 && isControl(byte(r)) || r >= 0x80 && !unicode.IsGraphic(r) && !unicode.Is(unicode.Cf, r) {
			return false
		}
		if r < 0x80 {
			ascii++
		}
	}
	return marked || ascii*10 >= len(runes)*9
}
