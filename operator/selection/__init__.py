"""Which machine for a pod: pure functions over a catalogue of instance types, which say why."""
