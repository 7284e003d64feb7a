"""Uses of samnet that a type checker has to find."""

import samnet

samnet.verify(raw="raw")
samnet.train(8, foldd=0)
print(samnet.plan(8).configurationz)
samnet.predict("in", "out", checkpoint="newest")
samnet.Predictor.from_folder("m").predict("a.nii.gz", return_probabilities="yes")
