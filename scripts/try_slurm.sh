#!/usr/bin/env bash
# Trains under a real Slurm: a cluster of two nodes on this machine, made for it in a temporary folder. One run as it
# is, one that is cancelled and resumed: both must end with the same weights, bit for bit. On Debian, as root:
#   MAKEMORE_DATA_DIR=... bash scripts/try_slurm.sh
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh
setup train
if ! command -v slurmctld >/dev/null; then
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends slurm-wlm munge >/dev/null
fi
makemore=$PWD/.venv/bin/makemore python=$PWD/.venv/bin/python
place=$(mktemp -d)
stop() {
    for pid in "$place"/*.pid; do kill "$(cat "$pid")" 2>/dev/null || true; done
    rm -rf "$place"
}
trap stop EXIT

chmod 755 "$place" # Munge wants every folder above its socket to be safe
head -c 1024 /dev/urandom >"$place/munge.key"
chmod 400 "$place/munge.key"
munged --force --key-file="$place/munge.key" --socket="$place/munge.socket" --pid-file="$place/munged.pid" \
    --log-file="$place/munged.log" --seed-file="$place/munge.seed"
export SLURM_CONF=$place/slurm.conf
cat >"$SLURM_CONF" <<END
ClusterName=trial
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=16817
AuthInfo=socket=$place/munge.socket
CredType=cred/munge
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool.%n
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd.%n.pid
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=60
NodeName=n[1-2] NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=1 State=UNKNOWN
PartitionName=all Nodes=n[1-2] Default=YES
END
mkdir "$place/state" "$place/spool.n1" "$place/spool.n2" "$place/work"
slurmctld
slurmd -N n1
slurmd -N n2
until sinfo -h -t idle -o %D | grep -q 2; do sleep 1; done

cd "$place/work"
export MASTER_ADDR=127.0.0.1 # the nodes' names mean nothing here
options=(--config makemore --trainer.accelerator cpu --trainer.num_nodes 2 --trainer.devices 1
    --trainer.strategy ddp --trainer.max_steps 2000)
fit() {
    srun --nodes 2 --ntasks-per-node 1 "$makemore" fit "$@"
}
fit "${options[@]}" --run whole
fit "${options[@]}" --run cancelled &
running=$!
until [ -f checkpoints/cancelled/last.ckpt ]; do sleep 0.2; done
scancel --name makemore
if wait "$running"; then
    echo "it has ended before it was cancelled" >&2
    exit 1
fi
fit --config checkpoints/cancelled/config.yaml --ckpt_path checkpoints/cancelled/last.ckpt
"$python" - <<'END'
import torch

whole, cancelled = (torch.load(f"checkpoints/{run}/last.ckpt")["state_dict"] for run in ("whole", "cancelled"))
assert all(torch.equal(whole[name], cancelled[name]) for name in whole), "the weights differ"
print("the same weights")
END
