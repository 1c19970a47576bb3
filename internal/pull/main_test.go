package pull

import (
	"io"
	"log"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // net/http prints what wrong servers send after a body
	if job, ok := os.LookupEnv(killedJob); ok {
		os.Exit(runToBeKilled(job))
	}
	goleak.VerifyTestMain(m)
}
