"""Finding facts out: all the I/O of the doctor, none of its judgement. Nothing here changes anything."""
