package lab_test

// A lack is an input of an agent's that is missing, empty or cannot be read. Its
// script runs in a mount namespace of the agent's own, with $STATE, $OBJECTS, $REPORTS
// and $PODS (namespaces of the node's pods) set, before the agent does.
type lack struct {
	what, script string
	args         string   // more arguments of the agent
	says         []string // what the log or the agent's answers tell, one of them; nil: nothing is lacking
}

const (
	recordOfA   = `R=$(grep -l '"Pod":"a"' $STATE/attachments/*/*.json); `
	dropRecords = `rm -rf $STATE/attachments; `
)

// lacks are all inputs there are. What an agent writes itself and finds missing, such
// as allocations, is what the first agent of a node finds, and nothing to tell.
var lacks = []lack{
	{what: "nothing is lacking"},
	{what: "netns: another directory", script: `mount -t tmpfs none /run/netns`, says: []string{"/run/netns cannot be seen"}},
	{what: "netns: no directory", script: `mount -t tmpfs none /run`, says: []string{"/run/netns cannot be seen"}},
	{what: "netns: mounts not propagated", script: `umount -l $PODS`, says: []string{"/run/netns cannot be seen"}},
	{what: "netns: one pod's is not propagated", script: `umount -l ${PODS%% *}`, says: []string{"is no network namespace"}},
	{what: "record: empty", script: recordOfA + `: >$R`, says: []string{"was set aside"}},
	{what: "record: cut", script: recordOfA + `truncate -s 40 $R`, says: []string{"was set aside"}},
	{what: "record: garbage", script: recordOfA + `head -c 300 /dev/urandom >$R`, says: []string{"was set aside"}},
	{what: "record: a byte flipped", script: recordOfA + `sed -i 's/10\.244/10.245/' $R`, says: []string{"was set aside"}},
	{what: "record: missing", script: recordOfA + `rm $R`, says: []string{"attachment without a record"}},
	{what: "record: a directory", script: recordOfA + `rm $R; mkdir $R`, says: []string{"was set aside"}},
	{what: "records: missing", script: dropRecords, says: []string{"attachment without a record"}},
	{what: "records: a file", script: dropRecords + `: >$STATE/attachments`, says: []string{"not a directory"}},
	{what: "allocations: empty", script: `: >$STATE/allocations.journal`, says: []string{"allocations.journal cannot be read"}},
	{what: "allocations: garbage", script: `head -c 300 /dev/urandom >$STATE/allocations.journal`, says: []string{"allocations.journal cannot be read"}},
	{what: "allocations: missing", script: `rm -f $STATE/allocations.*`},
	{what: "allocations of an earlier release: empty", script: `: >$STATE/allocations.json`, says: []string{"allocations.json cannot be read"}},
	{what: "allocations of an earlier release: garbage", script: `head -c 300 /dev/urandom >$STATE/allocations.json`, says: []string{"allocations.json cannot be read"}},
	{what: "last given: garbage", script: `head -c 30 /dev/urandom >$STATE/last-given.json`, says: []string{"last-given.json cannot be read"}},
	{what: "settings: cut", script: `truncate -s 5 $STATE/settings.json`, says: []string{"settings.json cannot be read"}},
	{what: "settings: missing", script: `rm -f $STATE/settings.json`},
	{what: "tombstones: missing", script: `rm -rf $STATE/tombstones`},
	{what: "tombstones: a file", script: `rm -rf $STATE/tombstones; : >$STATE/tombstones`, says: []string{"not a directory"}},
	{what: "lock: missing", script: `rm -f $STATE/lock`},
	{what: "state: an empty directory", script: `mount -t tmpfs none $STATE`, says: []string{"attachment without a record"}},
	{what: "state: read-only", script: `mount --bind $STATE $STATE; mount -o remount,ro,bind $STATE`, says: []string{"cannot be written"}},
	{what: "state: full disk", script: `mount -t tmpfs -o size=256k none /mnt; cp -a $STATE/. /mnt; cat /dev/zero >/mnt/ballast 2>/dev/null; mount --bind /mnt $STATE`,
		says: []string{"cannot be written"}},
	{what: "sysctls: read-only", script: `mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys`},
	{what: "sysctls: missing", script: `mount -t tmpfs none /proc/sys/net`, says: []string{"ip_local_port_range"}},
	{what: "objects: an empty directory", script: `mount -t tmpfs none $OBJECTS`, says: []string{"there is no Node n1 yet"}},
	{what: "objects: no directory", args: "--objects /nowhere", says: []string{"is no directory"}},
	{what: "reports: an empty directory", script: `mount -t tmpfs none $REPORTS`},
	{what: "CNI: configuration is a file", args: "--cni-conf-dir /etc/hostname", says: []string{"the container runtime is not shown"}},
	{what: "CNI: plugins read-only", args: "--cni-bin-dir /proc/1", says: []string{"the container runtime is not shown"}},
}
