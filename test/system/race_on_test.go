//go:build race

package system

// raceEnabled has the programs under test built as this test is.
const raceEnabled = true
