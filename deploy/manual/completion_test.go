package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A shell is asked for the completions of a command line by a script, whose arguments are the file
// with the completion and the words of the command line. It prints one completion per line.
var shells = map[string]string{
	"bash": `. "$1"; shift
		COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
		"_$1"
		printf '%s\n' "${COMPREPLY[@]}"`,

	// zsh completes only on a terminal, which zpty is.
	"zsh": `zmodload zsh/zpty
		cp "$1" "${1:h}/_$2"
		shift
		zpty z zsh -f -i
		zpty -w z "PS1=; fpath=(${(q)PWD} \$fpath); autoload -U compinit; compinit -u -D; zstyle ':completion:*' list-prompt ''; zstyle ':completion:*' verbose false; LISTMAX=10000; unsetopt automenu listambiguous zle_bracketed_paste"
		zpty -w z 'bindkey "^I" list-choices; bindkey "^X" kill-whole-line; print -r - rea""dy'
		zpty -r z out '*ready*'
		zpty -n -w z "$*"$'\t\x18'
		zpty -w z 'print -r - e""nd'
		zpty -r z out '*end*'
		print -r -- $out
		zpty -d z`,

	"fish": `source $argv[1]; complete -C (string join ' ' -- $argv[2..-1])`,
}

// completions returns what a shell completes the last of the words to.
func completions(t *testing.T, shell, file string, words ...string) []string {
	t.Helper()
	args := append([]string{"-c", shells[shell]}, "shell", file)
	if shell == "fish" {
		args = []string{"--no-config", "-c", shells[shell], file}
	}
	cmd := exec.Command(shell, append(args, words...)...)
	cmd.Dir = filepath.Dir(file)
	cmd.Env = append(os.Environ(), "HOME="+cmd.Dir, "TERM=dumb", "COLUMNS=200", "LINES=500")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", shell, err, out)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' || r == '\r' || r == '\t' || r == ' ' })
}

// In every shell, flags are completed by name, and some values.
func TestCompletion(t *testing.T) {
	_, helpText := program(t, "wsecho/cmd/server")
	_, loadText := program(t, "wsecho/loadtest")
	for shell := range shells {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatal("CI needs this shell: ", err)
				}
				t.Skip(err)
			}
			dir := t.TempDir()
			files := map[string]string{}
			for program, text := range map[string]string{"wsecho": helpText, "wsload": loadText} {
				h, err := parse(strings.NewReader(text))
				if err != nil {
					t.Fatal(err)
				}
				var completion bytes.Buffer
				if err := h.writeCompletion(&completion, shell); err != nil {
					t.Fatal(err)
				}
				files[program] = filepath.Join(dir, program+".completion")
				if err := os.WriteFile(files[program], completion.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "result.json"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				words []string
				want  []string // each must be offered
				none  string   // and this must not
			}{
				{[]string{"wsecho", "-max-"}, []string{"-max-conns", "-max-conns-per-ip", "-max-message", "-max-header"}, "-listen"},
				{[]string{"wsecho", "-log", ""}, []string{"text", "json"}, "-listen"},
				{[]string{"wsload", "-mode", ""}, []string{"echo", "idle", "connect"}, "-listen"},
				{[]string{"wsload", "-html", "re"}, []string{"result.json"}, "text"},
				{[]string{"wsecho", "-workers", "result"}, nil, "result.json"},
			} {
				got := completions(t, shell, files[c.words[0]], c.words...)
				for _, want := range c.want {
					// zsh and fish show a description or, for a single file, only its end.
					if !slices.Contains(got, want) && !strings.Contains(strings.Join(got, " "), want) {
						t.Errorf("%q: got %q, want %s", c.words, got, want)
					}
				}
				if slices.Contains(got, c.none) {
					t.Errorf("%q: got %q, want no %s", c.words, got, c.none)
				}
			}
		})
	}
	t.Run("bash with an equals sign", func(t *testing.T) {
		h, err := parse(strings.NewReader(helpText))
		if err != nil {
			t.Fatal(err)
		}
		var completion bytes.Buffer
		h.writeBash(&completion)
		file := filepath.Join(t.TempDir(), "completion")
		if err := os.WriteFile(file, completion.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, words := range [][]string{{"wsecho", "-log", "=", ""}, {"wsecho", "-log", "="}, {"wsecho", "--log", "=", "te"}} {
			if got := fmt.Sprint(completions(t, "bash", file, words...)); !strings.Contains(got, "text") {
				t.Errorf("%q: got %s, want text", words, got)
			}
		}
	})
}
