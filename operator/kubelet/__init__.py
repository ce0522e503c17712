"""The virtual node's kubelet API, port 10250: logs, exec, attach and port-forward of every cell behind one address.

`server.KubeletServer` answers as a kubelet does; for one pod it copies bytes to that pod's own kubelet (`stream`), for
the whole node it asks every cell and adds up (`aggregate`), for a pod whose instance is gone it reads what was kept
(`logs`). Callers are checked as a kubelet checks them (`auth`), and the serving certificate comes from the cluster
(`certificate`).
"""
