// Command rclone is rclone with the two backends and the one command that the bench needs, and nothing else changed: all of it
// would take ten minutes to build.
package main

import (
	_ "github.com/rclone/rclone/backend/http"  // where the bytes come from
	_ "github.com/rclone/rclone/backend/local" // where they go
	"github.com/rclone/rclone/cmd"
	_ "github.com/rclone/rclone/cmd/copyto"  // the command
	_ "github.com/rclone/rclone/cmd/version" // for the report
)

func main() { cmd.Main() }
