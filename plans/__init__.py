"""The named configurations, one JSON file each; installed as `samnet.plans`."""
