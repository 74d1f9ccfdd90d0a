"""CloudFormation templates, service control policies, stages, and the code behind the Make targets."""
