"""User memory becomes something that an IO can use: struct pages today, phyrs as proposed."""
