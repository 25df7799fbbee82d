// A photo's depth of field made shallow by argan's exported pipeline.pt, in LibTorch.
//
//     bokeh pipeline.pt photo.ppm result.ppm [BLUR [FOCUS]]
//
// BLUR is the largest disc's diameter in percent of the photo's long side (default 2), FOCUS the disparity in focus,
// 0 far to 1 near (default -1: what the model has learned to see sharp). Photos are binary PPM, 8 bits:
// `magick photo.jpg photo.ppm` makes them.

#include <torch/script.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

// (1, 3, H, W), float, display-encoded RGB in [0, 1].
torch::Tensor read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  file >> magic;
  int64_t header[3];  // width, height, greatest value
  for (int64_t& number : header) {
    while ((file >> std::ws).peek() == '#') file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    file >> number;
  }
  file.get();  // one blank ends the header
  const auto [width, height, greatest] = header;
  if (!file || magic != "P6" || greatest != 255 || width < 1 || height < 1) {
    throw std::runtime_error(path + " is not a binary PPM of 8 bits");
  }
  std::vector<char> bytes(3 * width * height);
  if (!file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()))) {
    throw std::runtime_error(path + " is cut short");
  }
  const auto pixels = torch::from_blob(bytes.data(), {height, width, 3}, torch::kUInt8);
  return pixels.permute({2, 0, 1}).unsqueeze(0).to(torch::kFloat32).div(255);
}

void write_ppm(const std::string& path, const torch::Tensor& image) {
  const auto pixels = image.squeeze(0).permute({1, 2, 0}).mul(255).add(0.5).clamp(0, 255).to(torch::kUInt8).contiguous();
  std::ofstream file(path, std::ios::binary);
  file << "P6\n" << pixels.size(1) << ' ' << pixels.size(0) << "\n255\n";
  file.write(reinterpret_cast<const char*>(pixels.data_ptr<uint8_t>()), pixels.numel());
  if (!file.flush()) throw std::runtime_error(path + " cannot be written");
}

float number(const std::string& text) {
  size_t end = 0;
  float value = 0;
  try {
    value = std::stof(text, &end);
  } catch (const std::logic_error&) {
  }
  if (end == 0 || end != text.size()) throw std::runtime_error(text + " is no number");
  return value;
}

int main(int count, char** arguments) try {
  if (count < 4 || count > 6) {
    std::cerr << "usage: bokeh pipeline.pt photo.ppm result.ppm [BLUR [FOCUS]]\n";
    return 2;
  }
  const float blur = count > 4 ? number(arguments[4]) : 2.0f;
  const float focus = count > 5 ? number(arguments[5]) : -1.0f;

  const torch::InferenceMode inference;
  auto pipeline = torch::jit::load(arguments[1]);
  const auto image = read_ppm(arguments[2]);
  const auto outputs = pipeline.forward({image, torch::tensor({blur}), torch::tensor({focus})}).toTuple();
  write_ppm(arguments[3], outputs->elements()[0].toTensor());
  return 0;
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}
