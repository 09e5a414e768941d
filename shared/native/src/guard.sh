# Runs a program that must not outlive its parent: sh -c THIS guard GRACE_SECONDS LOG PROGRAM ARGUMENTS...
#   standard input   a pipe from the parent: each line is a signal to pass on; its end means that the parent is gone
#   standard output  the lock on the program's folder, held as long as the program lives
#   standard error   where the output goes if LOG is empty
# It exits with the program's status.
grace=$1
log=$2
shift 2
exec 3<&0 </dev/null
[ -z "$log" ] || exec 2>>"$log"

"$@" 3<&- >&2 &
program=$!

{
    while read -r signal; do kill -s "$signal" "$program"; done
    checks_left=$((grace * 10))
    [ "$checks_left" -gt 0 ] && kill -s TERM "$program"
    while [ "$checks_left" -gt 0 ] && kill -s 0 "$program"; do
        sleep 0.1
        checks_left=$((checks_left - 1))
    done
    kill -s KILL "$program"
} <&3 2>/dev/null &
control=$!

wait "$program"
status=$?
kill "$control" 2>/dev/null
exit "$status"
