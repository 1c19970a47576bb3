package process

import (
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Run runs a command that is expected to end by itself, such as a build. A terminal's Ctrl-C does not reach it: when its context
// ends, its whole process group is interrupted, so that the caller knows why it ended; and so it is when this process dies.
// The command must come from exec.CommandContext.
func Run(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second // a compiler needs a moment; then it is killed
	// Pdeathsig comes when the thread ends that started the command: see Process.run.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return cmd.Run()
}
