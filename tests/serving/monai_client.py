"""What a user does in 3D Slicer, with the client package of MONAI Label. A script.

It is run in an environment that has this package, and neither torch nor samnet. Its arguments are
the address of a server, an image to upload, a label map to save, and a folder for what it receives.
It prints what the server answered as JSON.
"""

import json
import sys
import time

from monailabel.client import MONAILabelClient

url, image, label, folder = sys.argv[1:]
client = MONAILabelClient(url, tmpdir=folder, client_id="tester")
told = {"info": client.info(), "auth": client.auth_enabled()}
told["sample"] = client.next_sample("first", {})
name = told["sample"]["id"]
told["file"], told["params"] = client.infer("lora", name, {"result_extension": ".nii.gz"})
info = [{"name": "one", "idx": 1}, {"name": "two", "idx": 2}]
told["saved"] = client.save_label(name, label, params={"label_info": info})
told["datastore"] = client.datastore()
told["downloaded"] = client.download_label(name, "final")
told["next"] = client.next_sample("first", {})
session = client.create_session(image)["session_id"]
told["session"] = client.get_session(session)
told["session_file"], _ = client.infer("lora", "any", {}, session_id=session)
client.remove_session(session)
told["uploaded"] = client.upload_image(image, "5: new scan")
told["file_of_uploaded"], _ = client.infer("lora", "5: new scan", {})
told["train"] = client.train_start("lora", {"steps": 2})
states = [client.train_status(True)]
while client.train_status(True):
    time.sleep(1)
told["running"] = states
told["trained"] = client.train_status()
told["stopped"] = client.train_stop()
told["models"] = client.info()["models"]
print(json.dumps(told))
