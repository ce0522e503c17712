"""`kip efs`: the image cache's volume on EFS, made from what is there, shown, and taken down again."""
