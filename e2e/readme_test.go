package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A command of the README, identified by its beginning.
type documented struct {
	begins string
	wants  string   // the output must contain it
	env    []string // in addition to the environment
	needs  string   // program without which the command cannot run
	not    string   // why the test does not run the command
}

// Every command in a block of shell commands in README.md must fit one of these, the first that
// fits counts.
var documentedCommands = []documented{
	{begins: "curl -si -m 1 -H 'Connection: Upgrade'", wants: "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", needs: "curl"},
	{begins: "curl -s localhost:6060/metrics", wants: "\nwsecho_connections_limit ", needs: "curl"},
	{begins: "curl -s 'localhost:6060/connz?", wants: `"total": 0`, needs: "curl"},
	{begins: "(echo hello; sleep 1) | python3 -m websockets", wants: "< hello", needs: "/usr/bin/python3"},
	{begins: "node -e ", wants: "hello", needs: "node", env: []string{"NODE_OPTIONS=--experimental-websocket --no-warnings"}}, // the flag is for versions before 22
	{begins: "echo hello | websocat ", wants: "hello", not: "Debian 12 has no websocat"},
	{begins: "k6 run ", wants: "ws_errors: count==0", needs: "k6", env: []string{"REPORTS="}},

	{begins: "make run", not: "TestMakeRun runs it"},
	{begins: "make test", not: "it runs this test"},
	{begins: "make build", wants: "-o bin/wsload"},
	{begins: "bin/wsecho -h", wants: "-listen address"},
	{begins: "bin/wsecho -check", wants: "This machine allows "},
	{begins: "bin/wsload ", wants: "every byte as it was sent"},

	{begins: "make deb", not: "make deb-test and make systemd-test build, install and run the package"},
	{begins: "apt install ", not: "make systemd-test installs the package"},
	{begins: "systemctl ", not: "make systemd-test runs it under systemd"},
	{begins: "docker ", not: "e2e/image tests the image without Docker"},
	{begins: "make million", not: "it opens all descriptors of the machine for minutes"},
	{begins: "make chaos", not: "it runs for minutes; make test has a short form"},
}

// shellBlocks returns the commands in the blocks of a document that are marked as shell commands.
func shellBlocks(t *testing.T, path string) (commands []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		for line := range strings.Lines(block[1]) {
			command, _, _ := strings.Cut(strings.TrimSpace(line), "  #") // a comment after the command
			if command = strings.TrimSpace(command); command != "" {
				commands = append(commands, command)
			}
		}
	}
	return commands
}

// Every command of the README runs as it is written, apart from the ports, and does what the README
// says.
func TestREADMECommandsRun(t *testing.T) {
	commands := shellBlocks(t, "../README.md")
	if len(commands) < 20 {
		t.Fatalf("the README has %d commands, want at least 20: %q", len(commands), commands)
	}
	if output, err := exec.Command("make", "-C", "..", "build").CombinedOutput(); err != nil { // as make run does
		t.Fatalf("make build: %v\n%s", err, output)
	}
	fits := map[string]bool{}
	for _, command := range commands {
		t.Run(command, func(t *testing.T) {
			var c *documented
			for i := range documentedCommands {
				if strings.HasPrefix(command, documentedCommands[i].begins) {
					c = &documentedCommands[i]
					break
				}
			}
			if c == nil {
				t.Fatal("no entry of documentedCommands fits this command: it would be run by no test")
			}
			fits[c.begins] = true
			if c.not != "" {
				t.Skip(c.not)
			}
			c.run(t, command)
		})
	}
	for _, c := range documentedCommands {
		if !fits[c.begins] {
			t.Errorf("the README has no command that begins with %q", c.begins)
		}
	}
}

func (c *documented) run(t *testing.T, command string) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	path := "/usr/bin:" + filepath.Join(root, "bin") + ":" + os.Getenv("PATH") // Debian's python3 and curl; bin/k6
	if c.needs != "" {
		t.Setenv("PATH", path)
		program(t, c.needs)
	}
	s := start(t)
	command = strings.NewReplacer("localhost:8080", s.addr, "localhost:6060", s.admin, "bin/report.html", filepath.Join(t.TempDir(), "report.html")).Replace(command)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", command)
	cmd.Dir = root
	cmd.Env = append(append(os.Environ(), "PATH="+path, "no_proxy=*", "NO_PROXY=*"), c.env...)
	output, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); err != nil && !(c.needs == "curl" && code == 28) { // curl ends after -m 1
		t.Errorf("%v", err)
	}
	if !strings.Contains(string(output), c.wants) {
		t.Errorf("the output does not contain %q", c.wants)
	}
	if t.Failed() {
		t.Logf("%s\n%s", command, output)
	}
}

// make run builds the server and serves. Ctrl+C, which sends SIGINT to make and to the server, drains.
func TestMakeRun(t *testing.T) {
	cmd := exec.Command("make", "run", "ARGS=-listen 127.0.0.1:0 -admin 127.0.0.1:0 -log json")
	cmd.Dir = ".."
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s := startCmd(t, cmd)
	p := s.upgrade(t)
	p.send(frame{op: opText, payload: []byte("hello")})
	p.want(frame{op: opText, payload: []byte("hello")})
	p.closes()
	if err := syscall.Kill(-s.pid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	s.exitCode() // that of make, which has been interrupted
	if all := strings.Join(s.log, "\n"); !strings.Contains(all, `"msg":"stopped"`) {
		t.Errorf("the server did not drain:\n%s", all)
	}
}
