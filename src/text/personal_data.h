// Private to text: what in a text looks like data of a person, or like a key.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace fettle {

struct PersonalData {
  std::string kind;   // "email", "phone", "card", "iban", "key"
  std::string what;   // "an email address"
  std::string shown;  // masked: enough to find it again, too little to use
};
// Each kind at most once. Linear in the text.
std::vector<PersonalData> find_personal_data(std::string_view text);

}  // namespace fettle
