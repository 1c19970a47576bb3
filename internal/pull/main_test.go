package pull

import (
	"io"
	"log"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // net/http prints what wrong servers send after a body
	goleak.VerifyTestMain(m)
}
