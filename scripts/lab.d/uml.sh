uml_tree=/usr/src/linux-uml
